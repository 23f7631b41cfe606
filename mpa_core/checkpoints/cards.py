"""The card, README.md, that is written with every folder. No torch and nothing of the Hub here.

Saving must work where huggingface_hub is not installed, so the front matter is written here: lines
of plain text and lists of it, which need no library and come out the same, byte for byte, on every
installation. What huggingface_hub makes of a card when it is published, with figures and a sample
picture, is in :mod:`mpa_core.checkpoints.model_cards`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from mpa_core.checkpoints.meta import BaseMeta, PathMeta

LIBRARY = "mpa"
"""``library_name`` of every card, and the tag that repositories are found by."""
PIPELINE = "image-to-image"
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


def path_card(meta: PathMeta, *, licence: str | None = None, notes: str | None = None) -> str:
    """Return the card of a path folder; ``notes`` is Markdown that follows at its end."""
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
    card = front_matter(metadata(meta, licence)) + body + licence_note(licence)
    return card if notes is None else f"{card}\n{notes}"


def front_matter(values: Mapping[str, str | Sequence[str]]) -> str:
    """Return a YAML block of texts and lists of texts; any text is read back as it was."""
    lines = []
    for key, value in values.items():
        if isinstance(value, str):
            lines.append(f"{key}: {_scalar(value)}")
        else:
            lines += [f"{key}:", *(f"- {_scalar(item)}" for item in value)]
    return "---\n" + "".join(f"{line}\n" for line in lines) + "---\n"


def _scalar(text: str) -> str:
    """Return a text of YAML 1.1 and 1.2, quoted as in JSON where it could mean something else."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if plain else json.dumps(text)


def licence_note(licence: str | None) -> str:
    """Return the section of a card whose author states no licence, or nothing."""
    return "" if licence else f"\n## Licence\n\n{NO_LICENCE}\n"
