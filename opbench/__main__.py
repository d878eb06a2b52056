"""`python -m opbench` is the `opbench` command."""

from opbench.cli import main

if __name__ == "__main__":
    main()
