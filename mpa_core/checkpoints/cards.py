"""The card, README.md, that is written with every folder. No torch and nothing of the Hub here.

Saving must work where huggingface_hub is not installed, so the front matter is written here, in
the little of YAML that needs no library and comes out the same, byte for byte, on every
installation. What huggingface_hub makes of a card when it is published, with figures and a sample
picture, is in :mod:`mpa_core.checkpoints.model_cards`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mpa_core.checkpoints.meta import BaseMeta, PathMeta

LIBRARY = "mpa"
"""``library_name`` of every card, and the tag that repositories are found by."""
PIPELINE = "image-to-image"
PICTURES = "pictures"
"""Key, in the ``args`` of a figure's data set, that says how many pictures the figure is of."""
HERE = '"./FOLDER")  # this folder'
"""End of the line of a card that loads its folder; publishing puts the repository there."""
NO_LICENCE = (
    "The author states no licence for these weights. Ask before you use them for more than a look."
)

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"}

_BASE = """
# {name}

A base codec of the MPA SDK: one bitstream that task paths decode for people or for machines.

```python
from mpa_core import MPACodec

codec = MPACodec.from_pretrained({here}
data = codec.encode(image, quality=4.5)
picture = codec.decode(data)
```

- {summary}
- Latent channels: {latent}; quality levels: {levels}
- Parameters are stored as {dtype}
- Fingerprint: `{fingerprint}`
"""

_PATH = """
# {name} path for {base}

A task path of the MPA SDK: it decodes the bitstream of `{base}` for one task and changes no bit
of it.

```python
from mpa_core import Mix, MPACodec

codec = {loading}
codec.load_path({here}
reading = codec.decode(data, Mix({name}=1.0), output="tensor")
```

- {code}
- Trained on base `{base}` with fingerprint `{base_fingerprint}`; no other base will take it
- Fingerprint of the path: `{fingerprint}`
"""


def metadata(meta: BaseMeta | PathMeta, licence: str | None) -> dict[str, str | list[str]]:
    """Return what the front matter of a card says, by the Hub's keys."""
    found: dict[str, str | list[str]] = {"license": licence} if licence else {}
    found |= {"library_name": LIBRARY, "pipeline_tag": PIPELINE}
    # The Hub links a base model by its repository, which a bundled id is not.
    if isinstance(meta, PathMeta) and "/" in meta.base.repo_id:
        found |= {"base_model": meta.base.repo_id, "base_model_relation": "adapter"}
    kind = f"mpa-{meta.kind}"
    return {**found, "tags": [LIBRARY, "image-compression", "learned-image-compression", kind]}


def base_card(meta: BaseMeta, *, licence: str | None = None) -> str:
    """Return the card of a base folder.

    ``licence`` is an identifier of the Hub; with None the card says that none is stated.
    """
    config = meta.architecture
    body = _BASE.format(
        name=meta.name,
        here=HERE,
        summary=config.summary,
        latent=config.latent_channels,
        levels=config.quality_levels,
        dtype=meta.dtype,
        fingerprint=meta.fingerprint,
    )
    return front_matter(metadata(meta, licence)) + body + licence_note(licence)


def path_card(
    meta: PathMeta,
    *,
    licence: str | None = None,
    notes: str | None = None,
    results: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Return the card of a path folder.

    Args:
        meta: of the folder.
        licence: as for :func:`base_card`.
        notes: Markdown that follows at the end.
        results: figures, in the form of ``results`` of the Hub's ``model-index``.
    """
    install = f'`pip install "{meta.plugin.distribution}{meta.plugin.version}"`'
    body = _PATH.format(
        name=meta.path_type,
        base=meta.base.repo_id,
        loading=meta.base.loading,
        here=HERE,
        code=f"Code: {install}" + (" to train it; decoding needs none" if meta.plain else ""),
        base_fingerprint=meta.base.fingerprint,
        fingerprint=meta.fingerprint,
    )
    values: dict[str, Any] = dict(metadata(meta, licence))
    if results:
        values["model-index"] = [{"name": meta.path_type, "results": results}]
    card = front_matter(values) + body + licence_note(licence)
    return card if notes is None else f"{card}\n{notes}"


def front_matter(values: Mapping[str, Any]) -> str:
    """Return a YAML block of texts, numbers, lists and mappings; all is read back as it was."""
    return "---\n" + "".join(f"{line}\n" for line in _lines(values)) + "---\n"


def _lines(value: Mapping[str, Any] | Sequence[Any]) -> list[str]:
    """Return the lines of a mapping or a list, not indented."""
    found = []
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, str | float | int):
                found.append(f"{key}: {_scalar(item)}")
            else:
                indent = "  " if isinstance(item, Mapping) else ""
                found += [f"{key}:", *(indent + line for line in _lines(item))]
        return found
    for item in value:
        lines = [_scalar(item)] if isinstance(item, str | float | int) else _lines(item)
        found += [("  " if number else "- ") + line for number, line in enumerate(lines)]
    return found


def _scalar(value: str | float) -> str:
    """Return a value of YAML 1.1 and 1.2; text is quoted as in JSON where it could mean else."""
    if not isinstance(value, str):
        # YAML 1.1 takes 1e-05 for text.
        return f"{value:.12f}".rstrip("0") if "e" in repr(value) else json.dumps(value)
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return value if plain else json.dumps(value)


def licence_note(licence: str | None) -> str:
    """Return the section of a card whose author states no licence, or nothing."""
    return "" if licence else f"\n## Licence\n\n{NO_LICENCE}\n"
