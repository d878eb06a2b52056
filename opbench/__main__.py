"""`python -m opbench` is the `opbench` command."""

import os
import sys

if __name__ == "__main__":
    # Python puts the current folder first, where a file of the user's may have the name of a module that is needed
    # here. It goes last: a checkout that isn't installed is found there.
    here = os.getcwd()
    sys.path[:] = [*(path for path in sys.path if path not in ("", here)), here]

from opbench.main import main

if __name__ == "__main__":
    main()
