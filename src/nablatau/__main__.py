"""`python -m nablatau`, and so `torchrun -m nablatau`: the command line."""

import sys

from nablatau.cli import main

sys.exit(main())
