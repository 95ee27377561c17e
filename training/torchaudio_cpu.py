"""torchaudio, also beside a torch whose CUDA is absent or of another version.

The published Linux wheels of torchaudio carry compiled libraries that are linked against one CUDA
version. Beside a CPU build of torch `import torchaudio` raises OSError (libc10_cuda.so is missing),
beside another CUDA version RuntimeError (its own version check). What this project uses of
torchaudio is plain Python, so the import is tried once more with the compiled part announced as
absent. Nothing on disk changes.

Everything here imports torchaudio through this module:

    from training.torchaudio_cpu import torchaudio

What then works: data sets, transforms and functionals that are Python. What does not:
`torchaudio.load` and `save` (they want torchcodec), `forced_align` and `rnnt_loss` (compiled).
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

EXTENSION = "torchaudio._extension"


def import_torchaudio() -> ModuleType:
    """Import torchaudio, without its compiled part where that cannot be loaded.

    Returns:
        The module `torchaudio`, the same one on every call.

    Raises:
        ImportError: torchaudio is not installed (the `[train]` extra brings it), or is of a version
            whose Python part asks for more of the compiled part than `absent_extension` answers.
    """
    try:
        return importlib.import_module("torchaudio")
    except (OSError, RuntimeError):  # libraries of CUDA missing; CUDA of another version
        pass
    # Modules that were imported before the failure would keep what they saw of the compiled part.
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]
    sys.modules[EXTENSION] = absent_extension()
    return importlib.import_module("torchaudio")


def absent_extension() -> ModuleType:
    """A stand-in for `torchaudio._extension` that says: there is no compiled part.

    It answers what torchaudio 2.11 asks for: two flags, the version check, and the decorator of the
    functions that need compiled alignment.
    """

    class Extension(ModuleType):
        _IS_TORCHAUDIO_EXT_AVAILABLE = False
        _IS_ALIGN_AVAILABLE = False

        @staticmethod
        def _check_cuda_version() -> None:
            """Without a compiled part there is no CUDA version to compare."""

        @staticmethod
        def fail_if_no_align(function: Callable[..., object]) -> Callable[..., NoReturn]:
            """Replace a function that needs the compiled part by one that says so."""

            def refuse(*_args: object, **_settings: object) -> NoReturn:
                raise RuntimeError(f"{function.__name__} needs the compiled part of torchaudio")

            return refuse

    return Extension(EXTENSION)


torchaudio = import_torchaudio()
