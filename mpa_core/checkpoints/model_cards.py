"""Cards as they are published: figures, base model and a sample picture, by huggingface_hub.

What is written with a folder (:mod:`mpa_core.checkpoints.cards`), or what its author made of it,
is read as a ``ModelCard``, completed, and written by that library again. No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpa_core.arguments import as_sequence, shown, whole_number
from mpa_core.checkpoints.cards import HERE, NO_LICENCE, PICTURES, licence_note, metadata
from mpa_core.checkpoints.hub import SAMPLE, library
from mpa_core.checkpoints.meta import BaseMeta, PathMeta
from mpa_core.errors import ConfigError, HubError

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard


def read_card(text: str) -> ModelCard:
    """Return a card as huggingface_hub reads it.

    Raises:
        HubError: its front matter is none that the Hub takes.
        MissingDependencyError: huggingface_hub is not installed.
    """
    hub = library()
    try:
        card: ModelCard = hub.ModelCard(text)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise HubError(
            f"the front matter of README.md is no card of the Hub ({reason}); correct the lines "
            "between its first two ---"
        ) from error
    return card


def complete_card(
    text: str,
    meta: BaseMeta | PathMeta,
    *,
    repo_id: str | None = None,
    licence: str | None = None,
    eval_results: Sequence[EvalResult] = (),
    sample: str | None = None,
) -> str:
    """Return a card with all that the Hub shows of a checkpoint.

    What the author wrote stays, also other keys of the front matter; the sections made here are
    replaced when the card is completed again.

    Args:
        text: the card as it is.
        meta: of its folder.
        repo_id: where it is published: the lines that load it then name the repository.
        licence: identifier of the Hub; None leaves what the card says.
        eval_results: figures, each with ``dataset_args={"pictures": N}``; they become the card's
            ``model-index`` and a table. None leaves those of the card.
        sample: what ``sample.png`` beside the card shows, a line of Markdown.

    Raises:
        ConfigError: figures of another kind, or without how many pictures.
        HubError, MissingDependencyError: as :func:`read_card`.
    """
    results = checked_results(eval_results)
    if repo_id is not None:
        text = text.replace(HERE, f'"{repo_id}")')
    card = read_card(text)
    data: Any = card.data
    for key, value in metadata(meta, licence).items():
        known = data.get(key)
        if key == "tags":
            data.tags = list(dict.fromkeys([*(known or []), *value]))
        elif known is None or key in ("license", "library_name", "base_model"):
            setattr(data, key, value)
    if data.license is not None:
        card.text = card.text.replace(licence_note(None), "")
    elif NO_LICENCE not in card.text:
        card.text += licence_note(None)
    if results:
        data.eval_results = results
        data.model_name = repo_id or data.model_name or _name(meta)
        card.text = _with_section(card.text, "Figures", _table(results))
    if sample is not None:
        card.text = _with_section(card.text, "Sample", f"![{sample}]({SAMPLE})\n\n{sample}")
    return str(card)


def checked_results(results: Sequence[EvalResult]) -> list[EvalResult]:
    """Return ``results``; :class:`ConfigError` for one that does not say of how many pictures."""
    found = list(as_sequence(results, "eval_results", "EvalResult", ConfigError))
    for result in found:
        if not isinstance(result, library().EvalResult):
            raise ConfigError(
                f"eval_results has {shown(result)} in it, expected huggingface_hub.EvalResult; "
                "give such ones"
            )
        count = whole_number((result.dataset_args or {}).get(PICTURES))
        if count is None or count < 1:
            raise ConfigError(
                f"the figure {result.metric_type!r} on {result.dataset_name!r} does not say of how "
                f'many pictures it is; give it dataset_args={{"{PICTURES}": N}}'
            )
    return found


def missing_of(card: ModelCard) -> list[str]:
    """Return what a card lacks, each with what adds it."""
    data: Any = card.data
    found = []
    if data.license is None:
        found.append("no licence: --license ID")
    if not data.eval_results:
        found.append("no figures: --results results.json, of mpa eval")
    if SAMPLE not in card.text:
        found.append("no sample picture: --sample PHOTO")
    return found


def _name(meta: BaseMeta | PathMeta) -> str:
    return meta.path_type if isinstance(meta, PathMeta) else meta.name


def _with_section(text: str, title: str, body: str) -> str:
    """Return ``text`` with a section of ours, in place of the one it had."""
    begin, end = f"<!-- mpa: {title} -->", f"<!-- mpa: end of {title} -->"
    section = f"{begin}\n## {title}\n\n{body}\n{end}"
    older = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if older.search(text):
        return older.sub(lambda _: section, text)
    return f"{text.rstrip()}\n\n{section}\n"


def _table(results: Sequence[EvalResult]) -> str:
    rows = ["| metric | value | at | data | pictures |", "| --- | ---: | --- | --- | ---: |"]
    for result in results:
        conditions = ", ".join(
            f"{key} {value}" for key, value in (result.metric_args or {}).items()
        )
        pictures = (result.dataset_args or {})[PICTURES]
        name = result.metric_name or result.metric_type
        cells = (name, result.metric_value, conditions, result.dataset_name, pictures)
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)
