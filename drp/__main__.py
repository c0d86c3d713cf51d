"""`python -m drp`."""

import sys

from drp.cli import main

sys.exit(main())
