"""The compiled loops of the range coder; everything else is in pyproject.toml."""

from __future__ import annotations

import sysconfig

from setuptools import Extension, setup

# The limited API of 3.10: one wheel per platform serves that Python and every later one. Pythons
# without the global lock do not have it.
limited = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    ext_modules=[
        Extension(
            "mpa_core.bitstream._rans",
            ["mpa_core/bitstream/_rans.c"],
            define_macros=[("Py_LIMITED_API", "0x030A0000")] if limited else [],
            py_limited_api=limited,
            optional=True,  # without a compiler the loops are those of rans_python.py
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if limited else {},
)
