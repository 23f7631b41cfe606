"""The bases that ship inside the package; the module does not import torch."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from mpa_core.arguments import expect
from mpa_core.checkpoints.meta import BASE_CONFIG, read_base_meta
from mpa_core.errors import CheckpointError
from mpa_core.requirements import DISTRIBUTION

IN_A_NEWER_SDK = f"or, if a newer mpa-core brings it, run: pip install --upgrade {DISTRIBUTION}"
"""The end of every message on a base that is not bundled here."""


def bundled_bases() -> dict[str, Path]:
    """Return the folders of the bases that ship inside the package, by id in sorted order."""
    weights = Path(str(resources.files("mpa_core") / "weights"))
    if not weights.is_dir():
        return {}
    return {f.name: f for f in sorted(weights.iterdir()) if (f / BASE_CONFIG).is_file()}


def bundled_fingerprints() -> dict[str, str]:
    """Return the ids of the bundled bases by fingerprint, of every profile; files name these."""
    found = {}
    for name, folder in bundled_bases().items():
        meta = read_base_meta(folder)
        found.update({whole: name for whole in (meta.fingerprint, meta.exact) if whole})
    return found


def bundled_base_of(prefix: bytes) -> str | None:
    """Return the id of the bundled base whose fingerprint begins with ``prefix``, or None.

    Raises:
        CheckpointError: ``prefix`` is not bytes, or the installation is damaged.
    """
    expect(prefix, bytes, "prefix", "the first bytes of a fingerprint", CheckpointError)
    known = bundled_fingerprints().items()
    return next((name for whole, name in known if whole.startswith(prefix.hex())), None)
