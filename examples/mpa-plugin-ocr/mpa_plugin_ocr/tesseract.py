"""The program ``tesseract`` as a judge that no path is trained with."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image
from torch import Tensor

from mpa_core.errors import ConfigError, MissingDependencyError

PROGRAM = "tesseract"
_ONE_LINE = "7"
"""Its page segmentation mode for pictures of a single line."""
_PAGE, _WORD = "1", "5"
"""Levels of the rows in its tables."""
_SECONDS = 600.0
"""Longest time for the lines of a picture; each takes some hundredths of a second."""


class Tesseract:
    """Reads lines as English, all lines of a call in one process.

    Raises :class:`MissingDependencyError` where the program is not installed.
    """

    def __init__(self) -> None:
        program = shutil.which(PROGRAM)
        if program is None:
            raise MissingDependencyError(
                "recipe.judge is tesseract, and no program of that name is on the PATH; install it "
                "(Debian: apt-get install tesseract-ocr), or set recipe.judge to null"
            )
        self.program = program

    def __call__(self, lines: Tensor, widths: Tensor) -> list[str]:
        """Lines [N, 3, 48, W] in [0, 1], of which ``widths`` [N] pixels count -> [N] texts."""
        pixels = lines.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        with tempfile.TemporaryDirectory() as folder:
            names = []
            for number, (line, width) in enumerate(zip(pixels, widths.tolist(), strict=True)):
                names.append(str(Path(folder) / f"{number}.ppm"))
                Image.fromarray(line[:, : round(width)]).save(names[-1])
            listed = Path(folder) / "lines.txt"
            listed.write_text("\n".join(names) + "\n", encoding="utf-8")
            found = subprocess.run(  # noqa: S603 (a program of the system on files of ours)
                [self.program, str(listed), "-", "--psm", _ONE_LINE, "-l", "eng", "tsv"],
                capture_output=True,
                check=False,
                encoding="utf-8",
                # Its threads wait for each other longer than they work on pictures so small.
                env={**os.environ, "OMP_THREAD_LIMIT": "1"},
                timeout=_SECONDS,
            )
        # A table of pages, blocks, ..., words: a line on which it sees nothing has no words.
        rows = list(
            csv.DictReader(found.stdout.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
        )
        pages = [row for row in rows if row["level"] == _PAGE]
        if found.returncode or len(pages) != len(names):
            raise ConfigError(
                f"{self.program} ended with {found.returncode} and read {len(pages)} of "
                f"{len(names)} lines: {found.stderr.strip()[-300:] or 'no message'}; expected "
                "version 4 or later with its English data, or set recipe.judge to null"
            )
        texts = [""] * len(names)
        for row in rows:
            if row["level"] == _WORD:
                texts[int(row["page_num"]) - 1] += row["text"]
        return texts
