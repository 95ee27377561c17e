"""What pyproject.toml cannot say without an "experimental" warning: the beam search in C.

It is optional: where it cannot be compiled, the same search runs in Python.
"""

from hashlib import sha256
from pathlib import Path

from setuptools import Extension, setup

SOURCE = "asr/decoding/_kernel.c"
DIGEST = sha256(Path(SOURCE).read_bytes()).hexdigest()  # tells asr.decoding.kernel what was built

setup(
    ext_modules=[
        Extension(
            "asr.decoding._kernel",
            [SOURCE],
            define_macros=[("Py_LIMITED_API", "0x030B0000"), ("SOURCE_DIGEST", f'"{DIGEST}"')],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # one wheel for 3.11 and later
)
