"""The bases that ship inside the package. No torch here."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from mpa_core.arguments import expect
from mpa_core.checkpoints.meta import BASE_CONFIG, read_base_meta
from mpa_core.errors import CheckpointError


def bundled_bases() -> dict[str, Path]:
    """Bases that ship inside the package: id to folder, in the order of their ids."""
    weights = Path(str(resources.files("mpa_core") / "weights"))
    if not weights.is_dir():
        return {}
    return {f.name: f for f in sorted(weights.iterdir()) if (f / BASE_CONFIG).is_file()}


def bundled_fingerprints() -> dict[str, str]:
    """Fingerprints that files of the bundled bases begin with, of any profile, to the base's id."""
    found = {}
    for name, folder in bundled_bases().items():
        meta = read_base_meta(folder)
        found.update({whole: name for whole in (meta.fingerprint, meta.exact) if whole})
    return found


def bundled_base_of(prefix: bytes) -> str | None:
    """Id of the bundled base whose files begin with the fingerprint ``prefix``; None if it is none.

    Raises :class:`CheckpointError` where the installation is damaged.
    """
    expect(prefix, bytes, "prefix", "the first bytes of a fingerprint", CheckpointError)
    known = bundled_fingerprints().items()
    return next((name for whole, name in known if whole.startswith(prefix.hex())), None)
