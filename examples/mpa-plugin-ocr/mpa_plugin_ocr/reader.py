"""The frozen recogniser: lines cut out of pictures, read, and compared with what they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mpa_plugin_ocr.network import CLASSES, HEIGHT, STRIDE, TextRecogniser
from mpa_plugin_ocr.ppocr import PpOcr

FOLDER = Path(__file__).parent / "recogniser"
WEIGHTS = FOLDER / "ppocrv4-rec.safetensors"
CHARACTERS = FOLDER / "characters.txt"

BLANK = 0
"""Index of CTC's blank, and what the codes of a text are padded with."""


class Alphabet:
    """The characters that the recogniser knows, and their indices from 1 to 6624."""

    def __init__(self) -> None:
        # Not splitlines(): some of the characters are line separators to it.
        listed = CHARACTERS.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        self.characters = ["", *listed, " "]
        assert len(self.characters) == CLASSES
        self._index = {character: i for i, character in enumerate(self.characters) if i}

    def encode(self, text: str) -> list[int]:
        """Indices of the characters; raises :class:`KeyError` for one that it does not know."""
        return [self._index[character] for character in text]

    def decode(self, codes: Tensor) -> str:
        """The text of indices [L]; blanks are nothing."""
        return "".join(self.characters[code] for code in codes.tolist())

    def best_path(self, logits: Tensor) -> list[str]:
        """Logits [N, T, 6625] -> the texts of the most likely class at each place, as CTC has it:
        repetitions count once, and blanks part them."""
        return [self.decode(torch.unique_consecutive(places)) for places in logits.argmax(-1).cpu()]


def cut_lines(images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The lines of text in pictures, upright and of one height, side by side in a batch.

    Args:
        images: [B, 3, H, W].
        boxes: [B, K, 5] in pixels: centre x and y, width, height, and the angle in radians by
            which the line is turned counter-clockwise; a box without width is no line.

    Returns:
        The lines [N, 3, 48, W'], where W' is a multiple of 8, each from the left on and 0.5 behind
        its end; its picture and box, int64 [N, 2]; and its width in pixels [N], at most W'.
    """
    where = boxes[..., 2].gt(0).nonzero()
    x, y, long, high, angle = boxes[where[:, 0], where[:, 1]].T[..., None, None]
    scale = high / HEIGHT
    widths = (long / scale).flatten()
    width = STRIDE * max(1, int((widths.max() / STRIDE).ceil()) if len(widths) else 1)
    # From a line's centre, in pixels of the picture: along it [N, 1, W'], and down [N, 48, 1].
    columns = torch.arange(width, device=boxes.device) + 0.5
    along = columns * scale - long / 2
    down = (torch.arange(HEIGHT, device=boxes.device)[:, None] + 0.5) * scale - high / 2
    places = torch.stack(
        [
            (x + along * angle.cos() + down * angle.sin()) / images.shape[3],
            (y - along * angle.sin() + down * angle.cos()) / images.shape[2],
        ],
        -1,
    )
    # One call for each picture: its lines one below the other.
    parts = [images.new_empty(0, 3, HEIGHT, width)]
    for number, image in enumerate(images):
        grid = (2 * places[where[:, 0] == number] - 1).reshape(1, -1, width, 2)
        cut = F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)
        parts.append(cut.view(3, -1, HEIGHT, width).transpose(0, 1))
    inside = columns < widths[:, None, None, None]
    return torch.where(inside, torch.cat(parts), 0.5), where, widths


class Reader(PpOcr):
    """PP-OCRv4's recogniser on lines in [0, 1], with its own preparation of pictures."""

    def __init__(self) -> None:
        super().__init__(TextRecogniser(), WEIGHTS)

    def features(self, lines: Tensor) -> list[Tensor]:
        """What the network's layers make of RGB lines [N, 3, 48, W], from the first to the last."""
        return self.network.features(self.prepare(lines))

    def read(self, features: Sequence[Tensor]) -> Tensor:
        """:meth:`features` -> logits [N, W / 8, 6625]."""
        return self.network.read(features[-1])

    def forward(self, lines: Tensor) -> Tensor:
        """RGB lines [N, 3, 48, W], W a multiple of 8 -> logits [N, W / 8, 6625]."""
        return self.read(self.features(lines))


def ctc(logits: Tensor, texts: Tensor) -> Tensor:
    """Cross-entropy per character of texts [N, L], padded with 0, given logits [N, T, C]: [N].

    A text that does not fit into T places costs nothing.
    """
    lengths = texts.ne(BLANK).sum(1)
    places = torch.full_like(lengths, logits.shape[1])
    scores = logits.log_softmax(-1).transpose(0, 1)
    losses = F.ctc_loss(
        scores, texts, places, lengths, blank=BLANK, reduction="none", zero_infinity=True
    )
    return losses / lengths.clamp_min(1)


def distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """How far apart features [N, C, h, w] are: mean squared difference relative to the mean square
    of those wanted, mean over layers, [N]."""
    layers = [
        (a - b).square().mean((1, 2, 3)) / b.square().mean((1, 2, 3)).clamp_min(1e-6)
        for a, b in zip(found, wanted, strict=True)
    ]
    return torch.stack(layers).mean(0)
