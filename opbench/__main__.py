"""`python -m opbench` is the `opbench` command."""

from opbench.main import main

if __name__ == "__main__":
    main()
