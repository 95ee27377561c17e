"""`python -m asr`: the same as the command `asr`."""

import os
import sys
from pathlib import Path

# Python looks for packages where it was called, before all others. Whoever calls this beside a
# package of his own that is named `server` or `training` means ours.
if sys.path[0] in ("", os.getcwd()) and Path.cwd() != Path(__file__).parents[1]:  # noqa: PTH109
    del sys.path[0]

from asr.commands import main

sys.exit(main())
