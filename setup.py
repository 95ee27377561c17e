"""What pyproject.toml cannot say without an "experimental" warning: the beam search in C.

It is optional: where it cannot be compiled, the same search runs in Python.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "asr.decoding._kernel",
            ["asr/decoding/_kernel.c"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # one wheel for 3.11 and later
)
