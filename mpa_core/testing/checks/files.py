"""The path as a folder: what is saved, what loads, and what the plugin ships."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import safe_open

from mpa_core import checkpoints
from mpa_core.checkpoints.meta import CARD, PATH_WEIGHTS
from mpa_core.codec import MPACodec
from mpa_core.errors import BaseMismatchError, MPAError
from mpa_core.testing.check import CheckFailed, NotApplicable, fail_unless, listed
from mpa_core.testing.checks.coding import attached
from mpa_core.testing.materials import tiny_base
from mpa_core.testing.subject import PathUnderTest

_LICENCE = re.compile(r"^license:[ \t]*(\S+)", re.MULTILINE)
_DATA = re.compile(r"^(datasets:|[-*#> ]*(training )?data\b)", re.MULTILINE | re.IGNORECASE)
_UNSAID = frozenset({"unknown", "none", "null", "todo", "tbd"})


def check_own_keys(path: PathUnderTest) -> None:
    """Check that its own tensors are saved, no others, and not under its local name."""
    folder = path.folder / "keys"
    with attached(path) as (codec, name):
        _ = codec.save_path(name, folder)
        wanted = set(path.build().state_dict())
    with safe_open(folder / PATH_WEIGHTS, "pt") as file:
        found = set(file.keys())
    fail_unless(
        found == wanted,
        f"saved tensors and those of a fresh path differ in {listed(found ^ wanted)}; leave "
        "state_dict and load_state_dict as torch has them",
    )
    other = MPACodec.from_pretrained(path.base)
    name = other.load_path(folder, "renamed")
    fail_unless(
        name == "renamed" and set(other.model.paths[name].state_dict()) == wanted,
        "loaded under another name it has other tensors; nothing in it may depend on that name",
    )


def check_saved_and_loaded(path: PathUnderTest) -> None:
    """Check that, saved and loaded by another codec, it decodes to the same bits."""
    folder = path.folder / "saved"
    data = path.reference.data
    with attached(path, seed=1) as (codec, name):
        codec.save_path(name, folder)
        wanted = [codec.decode(data, {name: share}, output="tensor") for share in (1.0, 0.5)]
    other = MPACodec.from_pretrained(path.base)
    name = other.load_path(folder, "again")
    found = [other.decode(data, {name: share}, output="tensor") for share in (1.0, 0.5)]
    fail_unless(
        all(map(torch.equal, found, wanted)),
        "saved and loaded it decodes to another picture; what an output depends on has to be a "
        "parameter or a persistent buffer (register_buffer), not a plain attribute, and nothing "
        "may be drawn at random when it is built but what is saved",
    )


def check_wrong_base(path: PathUnderTest) -> None:
    """Check that a base that it was not trained on refuses it."""
    folder = path.folder / "belongs"
    with attached(path) as (codec, name):
        codec.save_path(name, folder)
    wrong = MPACodec.from_pretrained(tiny_base(path.folder / "other-base", seed=1))
    try:
        wrong.load_path(folder)
    except BaseMismatchError:
        return
    raise CheckFailed(
        "a base that it was not trained on takes it, and would decode to garbage; the plugin must "
        "leave the loading of paths as the SDK has it"
    )


def check_bundled_weights(path: PathUnderTest) -> None:
    """Check that weights in the plugin load, and are for the base that their folder names."""
    for name, folder in _bundled(path).items():
        try:
            loaded = checkpoints.load_path(folder)
            loaded.build(path.path_class)
        except MPAError as error:
            raise CheckFailed(f"{error}; put a folder there that mpa train export wrote") from error
        base = checkpoints.bundled_bases().get(name)
        known = None if base is None else checkpoints.read_base_meta(base).fingerprint
        fail_unless(
            known is None or loaded.meta.base.fingerprint == known,
            f"{folder} is called as base {name!r} ({(known or '')[:16]}…) and has weights for "
            f"{loaded.meta.base.repo_id!r} ({loaded.meta.base.fingerprint[:16]}…); move it to "
            "where its own base is named",
        )


def check_card(path: PathUnderTest) -> None:
    """Check that weights in the plugin have a card that says their licence and their data."""
    for folder in _bundled(path).values():
        card = folder / CARD
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        front, _, body = text.removeprefix("---\n").partition("\n---\n")
        licence = _LICENCE.search(front)
        fail_unless(
            licence is not None and licence[1].strip("'\"").lower() not in _UNSAID,
            f"{card} does not say under which licence the weights are; write `license: …` into its "
            "front matter (an identifier of the Hugging Face Hub), or export with --license",
        )
        fail_unless(
            _DATA.search(front) is not None or _DATA.search(body) is not None,
            f"{card} does not say what the weights were trained on; add a line `- Data: …`, or "
            "`datasets:` to its front matter",
        )


def _bundled(path: PathUnderTest) -> dict[str, Path]:
    """Return the folders of weights by base; raises :class:`NotApplicable` if there are none."""
    spec = path.registered.spec
    found = {name: spec.bundled_weights(name) for name in spec.bundled_bases()}
    folders = {name: folder for name, folder in found.items() if folder is not None}
    if not folders:
        raise NotApplicable("the plugin bundles no weights")
    return folders
