"""`python -m dir_core`: the command line, see dir_core.cli."""

import sys

from dir_core.cli import main

sys.exit(main())
