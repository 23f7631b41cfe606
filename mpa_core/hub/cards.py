"""Model cards: README.md with the front matter that the Hugging Face Hub reads. No torch here."""

from __future__ import annotations

from mpa_core.hub.meta import BaseMeta, PathMeta

_FRONT = """---
license: apache-2.0
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

- Stages of `g_a` (width x depth): {stages}
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
    """Card of a base folder."""
    config = meta.architecture
    return _FRONT.format(extra="", kind="mpa-base") + _BASE.format(
        name=meta.name,
        stages=", ".join(f"{stage.width} x {stage.depth}" for stage in config.g_a),
        latent=config.latent_channels,
        levels=config.quality_levels,
        dtype=meta.dtype,
        fingerprint=meta.fingerprint,
    )


def path_card(meta: PathMeta) -> str:
    """Card of a path folder."""
    # The Hub links a base model by repository; bundled ids are none.
    extra = f"base_model: {meta.base.repo_id}\n" if "/" in meta.base.repo_id else ""
    return _FRONT.format(extra=extra, kind="mpa-path") + _PATH.format(
        name=meta.path_type,
        base=meta.base.repo_id,
        distribution=meta.plugin.distribution,
        version=meta.plugin.version,
        base_fingerprint=meta.base.fingerprint,
        fingerprint=meta.fingerprint,
    )
