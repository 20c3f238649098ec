"""``python -m aureole``: the same as the command ``aureole``."""

import sys

from aureole.cli import main

sys.exit(main())
