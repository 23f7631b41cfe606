"""Character error rate: what a judge reads on a picture against what is written there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jiwer
import torch
from torch import Tensor

from mpa_core.tasks import PERCENT, Metric, PathBatch
from mpa_plugin_ocr.reader import Alphabet, Reader, cut_lines

Read = Callable[[Tensor, Tensor], list[str]]
"""Lines [N, 3, 48, W] in [0, 1] and the width of each in pixels [N] -> what they say."""


def character_error_rate(read: Read, name: str) -> Metric:
    """Edit distance to the exact strings for each of their characters, over all lines.

    The statistics of a picture are (substitutions, deletions and insertions; characters), so lines
    and pictures count by their length. White space that a judge sees does not count: no line has
    any. The figure can exceed 1 where a judge reads what is not there.
    """
    alphabet = Alphabet()

    def statistics(x_hat: Tensor, batch: PathBatch) -> Tensor:
        rows = []
        targets = zip(
            x_hat.clamp(0, 1), batch.targets["boxes"], batch.targets["texts"], strict=True
        )
        for picture, boxes, texts in targets:
            lines, where, widths = cut_lines(picture[None], boxes[None])
            written = [alphabet.decode(codes) for codes in texts[where[:, 1]]]
            read_there = read(lines, widths) if written else []
            rows.append((errors(written, read_there), sum(map(len, written))))
        return torch.tensor(rows, dtype=torch.float64)

    return Metric(
        statistics, higher_is_better=False, label=f"character error rate ({name})", unit=PERCENT
    )


def errors(written: Sequence[str], read: Sequence[str]) -> int:
    """Characters to change, drop or add so that each text read is the one written."""
    if not written:
        return 0
    plain = ["".join(text.split()) for text in read]
    found = jiwer.process_characters(list(written), plain)
    return int(found.substitutions + found.deletions + found.insertions)


def reader_judge(reader: Reader) -> Read:
    """PP-OCRv4's recogniser, the most likely class at each place."""
    alphabet = Alphabet()

    def read(lines: Tensor, widths: Tensor) -> list[str]:
        del widths
        return alphabet.best_path(reader(lines))

    return read
