"""A benchmark as a program: what cannot be measured ends it with one line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from asr.errors import Error, install

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Leave with the exit code of `main`, or with 1 where an error of ours says why not."""
    try:
        sys.exit(main(sys.argv[1:]))
    except Error as error:
        sys.exit(f"{error}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        sys.exit(f"this needs {error.name}: {install('train')}")
