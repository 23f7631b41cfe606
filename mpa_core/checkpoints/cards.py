"""Model cards: README.md with the front matter that the Hugging Face Hub reads.

The module does not import torch.
"""

from __future__ import annotations

from mpa_core.checkpoints.meta import BaseMeta, PathMeta

LICENCE = "apache-2.0"
"""Default licence of weights; an identifier of the Hugging Face Hub."""

_FRONT = """---
license: {licence}
library_name: mpa-core
pipeline_tag: image-to-image
{extra}tags:
- mpa
- image-compression
- learned-image-compression
- {kind}
---
"""

_BASE = """
# {name}

A base codec of the MPA SDK: one bitstream that task paths decode for people or for machines.

```python
from mpa_core import MPACodec

codec = MPACodec.from_pretrained("{name}")
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

codec = MPACodec.from_pretrained("{base}")
codec.load_path("FOLDER")  # this folder
reading = codec.decode(data, Mix({name}=1.0), output="tensor")
```

- Code: `pip install "{distribution}{version}"`
- Trained on base `{base}` with fingerprint `{base_fingerprint}`; no other base will take it
- Fingerprint of the path: `{fingerprint}`
"""


def base_card(meta: BaseMeta) -> str:
    """Return the card of a base folder."""
    config = meta.architecture
    return _FRONT.format(licence=LICENCE, extra="", kind="mpa-base") + _BASE.format(
        name=meta.name,
        summary=config.summary,
        latent=config.latent_channels,
        levels=config.quality_levels,
        dtype=meta.dtype,
        fingerprint=meta.fingerprint,
    )


def path_card(meta: PathMeta, *, licence: str = LICENCE, notes: str | None = None) -> str:
    """Return the card of a path folder; ``notes`` is Markdown that follows at its end."""
    # The Hub links a base model by its repository, which a bundled id is not.
    extra = f"base_model: {meta.base.repo_id}\n" if "/" in meta.base.repo_id else ""
    card = _FRONT.format(licence=licence, extra=extra, kind="mpa-path") + _PATH.format(
        name=meta.path_type,
        base=meta.base.repo_id,
        distribution=meta.plugin.distribution,
        version=meta.plugin.version,
        base_fingerprint=meta.base.fingerprint,
        fingerprint=meta.fingerprint,
    )
    return card if notes is None else f"{card}\n{notes}"
