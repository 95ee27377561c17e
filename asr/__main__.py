"""`python -m asr`: the same as the command `asr`."""

import sys

from asr.commands import main

sys.exit(main())
