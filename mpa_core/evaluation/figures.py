"""Figures of ``mpa eval`` about a base or a path, for its card on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mpa_core.checkpoints import BaseMeta, PathMeta
from mpa_core.checkpoints.cards import PICTURES, PIPELINE
from mpa_core.checkpoints.hub import library
from mpa_core.errors import ConfigError
from mpa_core.evaluation.picture_set import PictureSet
from mpa_core.evaluation.results import Results, Row, rounded

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


def card_figures(file: Path, meta: BaseMeta | PathMeta) -> list[EvalResult]:
    """Return the figures of ``file`` that are about the checkpoint, for its card.

    Of a base those of its main path, of a path those of the whole picture through it, told by the
    fingerprints in the results.

    Args:
        file: ``results.json`` of ``mpa eval``.
        meta: of the checkpoint's folder.

    Raises:
        ConfigError: no results of mpa eval, or none of this checkpoint.
        MissingDependencyError: huggingface_hub is not installed.
    """
    results = Results.load(file)
    rows = [row for row in results.rows.values() if _is_about(row, meta)]
    found = [figure for row in rows for figure in _figures(results, row)]
    if not found:
        what = f"base {meta.name!r}" if isinstance(meta, BaseMeta) else f"path {meta.path_type!r}"
        raise ConfigError(
            f"{file} has no figures of {what} with fingerprint {meta.fingerprint[:16]}…; measure "
            "it first: mpa eval PHOTOS --out DIR"
        )
    return found


def _is_about(row: Row, meta: BaseMeta | PathMeta) -> bool:
    """Told by the first digits of fingerprints, which rows have by the name of base and path."""
    if row.mix is None or row.match is not None:
        return False
    source = {name: str(digits) for name, digits in row.source.items()}
    if isinstance(meta, BaseMeta):
        return list(source) == ["base"] and meta.fingerprint.startswith(source["base"])
    # The path alone: with a share for main, no figure is the path's own.
    name = row.mix.removesuffix("=1")
    return list(source) == ["base", name] and meta.fingerprint.startswith(source[name])


def _dataset_args(pictures: PictureSet) -> dict[str, object]:
    args: dict[str, object] = {PICTURES: len(pictures.digests), "protocol": pictures.protocol}
    return args | ({"photos": len(set(pictures.photos))} if pictures.photos else {})


def _figures(results: Results, row: Row) -> list[EvalResult]:
    pictures = results.sets[row.pictures]
    figures = []
    for name, metric in results.metrics.items():
        value = results.figure(row, name)
        if value is None:
            continue
        figures.append(
            library().EvalResult(
                task_type=PIPELINE,
                dataset_type=pictures.name,
                dataset_name=f"{pictures.label} ({pictures.key})",
                dataset_args=_dataset_args(pictures),
                metric_type=name,
                metric_name=metric.full_label,
                metric_value=rounded(value * metric.unit.factor),
                metric_args={"quality": row.setting, "bpp": rounded(results.bpp(row))},
            )
        )
    return figures
