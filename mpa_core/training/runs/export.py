"""Export of a run's weights as a folder that a codec loads; a path gets a card of its training."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mpa_core import checkpoints
from mpa_core.checkpoints.cards import path_card
from mpa_core.codec import MPACodec
from mpa_core.errors import TrainingError
from mpa_core.plugins.registry import registry
from mpa_core.training.engine.checkpoint import SavedState, load_latest
from mpa_core.training.engine.loop import CHECKPOINTS
from mpa_core.training.runs.path import require_base
from mpa_core.training.runs.validated import (
    last_validation,
    validation_results,
    validation_table,
)
from mpa_core.training.runs.weights import averaged_model, averaged_path, is_path_run
from mpa_core.training.settings.path import PathTrainConfig, load_path_config, recipe_defaults
from mpa_core.training.settings.trees import changed_keys, flatten, is_below

if TYPE_CHECKING:
    from mpa_core.checkpoints.meta import StorageType

_ELSEWHERE = ("name", "base", "budget", "run", "cache")
"""Settings that the command in a card states in another way, or that do not affect what is
learned."""


Kind = Literal["base", "path"]


def run_kind(folder: Path) -> Kind:
    """Return whether the run in ``folder`` trains a base or a path.

    Raises:
        CheckpointError: there is no run.
    """
    return "path" if is_path_run(load_latest(folder / CHECKPOINTS)) else "base"


def export_run(
    folder: Path,
    out: Path,
    *,
    dtype: StorageType = "float32",
    name: str | None = None,
    base: str | None = None,
    licence: str | None = None,
    figures: str | None = None,
) -> str:
    """Write a run's averaged weights as a base folder or a path folder.

    Args:
        folder: folder of the run.
        out: folder to write.
        dtype: ``float16`` halves the file.
        name: name of a base; None takes the folder's own name.
        base: where a path's base is now, if not where the run found it.
        licence: licence of the weights, for the card; with None it says that none is stated.
        figures: Markdown for a path's card; None takes the run's last validation, which the Hub
            reads as figures, too, if it is of the weights exported.

    Returns:
        The fingerprint of the weights written, 64 hex digits.

    Raises:
        BaseMismatchError: ``base`` is not the run's.
        CheckpointError: there is no such run, or it does not fit its own settings.
        TrainingError: the run has made no step, or skipped each.
        OutputError: the folder cannot be written.
    """
    state = load_latest(folder / CHECKPOINTS)
    if not state.meta["step"]:
        raise TrainingError(
            f"{folder}: the run has made no step, so nothing was learned; go on with it by "
            "mpa train … --resume, and see what ended it"
        )
    if state.meta.get("bad_steps", 0) >= state.meta["step"]:
        raise TrainingError(
            f"{folder}: none of the run's {state.meta['step']} steps had a finite loss and "
            "gradient, so nothing was learned; see that the loss is finite, and train anew"
        )
    if is_path_run(state):
        return _export_path(folder, out, state, dtype, base, licence, figures)
    codec = MPACodec(averaged_model(folder), name=name or out.name)
    codec.save_pretrained(out, dtype=dtype, license=licence)
    # Rounding to float16 makes another base, so the fingerprint is taken from the folder.
    return MPACodec.from_pretrained(out).fingerprint


def _export_path(
    folder: Path,
    out: Path,
    state: SavedState,
    dtype: StorageType,
    base: str | None,
    licence: str | None,
    figures: str | None,
) -> str:
    config = PathTrainConfig.parse(state.meta["config"], source=str(state.folder))
    loaded = checkpoints.load_base(base or config.base)
    require_base(folder, state, loaded, "give that base with --base")
    plugin = state.meta["plugin"]
    named = loaded.reference
    at = f"@{named.revision}" if named.revision else ""
    validation = None if figures is not None else last_validation(folder)
    if validation is not None:
        figures = f"## Validation\n\n{validation_table(validation)}"
    elif figures is not None:
        figures = f"## Figures\n\n{figures.strip()}"
    results = None if validation is None else validation_results(validation, state.meta)
    notes = _notes(state, config, named.repo_id + at, figures)
    return checkpoints.save_path(
        out,
        averaged_path(folder, loaded),
        base_name=named.repo_id,
        base_fingerprint=named.fingerprint,
        base_revision=named.revision,
        plugin=checkpoints.PluginRef(
            distribution=plugin["distribution"], version=f">={plugin['version']}"
        ),
        card=partial(path_card, licence=licence, notes=notes, results=results),
        dtype=dtype,
    )


def _notes(state: SavedState, config: PathTrainConfig, base: str, figures: str | None) -> str:
    meta = state.meta
    hours = meta["elapsed"] / 3600
    begun = f", from the weights of `{meta['start_from']}`" if meta.get("start_from") else ""
    lines = [
        "## Training",
        "",
        f"- Recipe: `{meta['recipe']}` of {meta['plugin']['distribution']} "
        f"{meta['plugin']['version']}",
        f"- Data: {meta['data']}",
        f"- {meta['step']} steps of {config.data.batch} crops of {config.data.crop} pixels in "
        f"{hours:.3g} hours{begun}; averaged weights",
        "- The base was frozen; its fingerprint was the same before and after",
        "",
        "```sh",
        _command(config, base, meta),
        "```",
    ]
    if figures:
        lines += ["", figures]
    return "\n".join(lines) + "\n"


def _command(config: PathTrainConfig, base: str, meta: Mapping[str, Any]) -> str:
    """Return the command that trains such a path again, with all settings that are no defaults."""
    defaults = recipe_defaults(config.name)
    plain = load_path_config(config.name, config.base, None, defaults=defaults)
    values = flatten(config.model_dump(mode="json"))
    changed = [key for key in changed_keys(plain, config) if not is_below(key, _ELSEWHERE)]
    settings = [f"--set {shlex.quote(f'{key}={json.dumps(values.get(key))}')}" for key in changed]
    timed = config.budget.hours is not None
    budget = f"--hours {meta['elapsed'] / 3600:.3g}" if timed else f"--steps {meta['step']}"
    name = registry().name_of(registry().get(config.name))
    start = f"mpa train path {name} --base {base} --data PHOTOS --out RUN {budget}"
    if meta.get("start_from"):
        start += f" --from {shlex.quote(meta['start_from'])}"
    return " \\\n    ".join([start, *settings])
