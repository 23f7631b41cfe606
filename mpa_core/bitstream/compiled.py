"""Location of the compiled loops of the range coder, found without importing anything."""

from __future__ import annotations

from importlib.util import find_spec


def compiled_file() -> str | None:
    """Return the library that ``_rans.c`` was built into, or None where it was not built."""
    found = find_spec("mpa_core.bitstream._rans")
    return None if found is None else found.origin
