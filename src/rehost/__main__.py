"""`python -m rehost` is the command `rehost`."""

import sys

from rehost.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
