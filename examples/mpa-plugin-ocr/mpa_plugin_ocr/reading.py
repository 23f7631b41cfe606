"""How far what the recogniser reads on decoded pictures is from what it reads on the originals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mpa_plugin_ocr.network import HEIGHT, STRIDE
from mpa_plugin_ocr.reader import BLANK, Reader, cut_lines, distance

LEGIBLE = 0.5
"""Mean probability of the characters read on the original from which on a line counts: what is
found on leaves and bricks is read with less."""
COLUMNS = 1536
"""Columns of pixels of the lines that are read at once; a longer line is read alone."""
LAYERS = (5, 10, 12, 14)
"""Of the recogniser's features, those compared: the last at each size but the first two, which are
near the pixels and large."""


class _Lines(NamedTuple):
    """Some lines of a picture, and what the recogniser says of them on the original."""

    boxes: Tensor
    """[1, N, 5]."""
    scores: Tensor
    """Logarithms of the probabilities, [N, T, 6625]."""
    places: Tensor
    """[N, T]: 1 / characters read on the line; 0 behind its end."""
    features: list[Tensor]


class Readings:
    """The recogniser's loss of decoded pictures: their lines are to be read as on the originals.

    For each line it is the Kullback-Leibler divergence of the characters' probabilities from those
    on the original, over all places, per character read there, plus ``feature_weight`` times the
    relative squared difference of features. A picture has the mean over the lines that can be read
    on its original; 0 if there are none.

    Args:
        reader: frozen.
        images: the originals [B, 3, H, W] in [0, 1].
        boxes: of their lines [B, K, 5], as :func:`~mpa_plugin_ocr.reader.cut_lines` takes them.
        feature_weight: at least 0.
    """

    @torch.no_grad()
    def __init__(
        self, reader: Reader, images: Tensor, boxes: Tensor, *, feature_weight: float
    ) -> None:
        self._reader = reader
        self._feature_weight = feature_weight
        self._pictures: list[list[_Lines]] = []
        for image, found in zip(images[:, None], boxes, strict=True):
            legible = [self._legible(image, part) for part in _parts(found[found[:, 2] > 0])]
            kept = torch.cat([found[:0], *legible])
            self._pictures.append([self._original(image, part) for part in _parts(kept)])

    def __call__(self, x_hat: Tensor) -> Tensor:
        """Return the loss [B] of decoded pictures [B, 3, H, W], not clamped."""
        if torch.is_grad_enabled() and x_hat.requires_grad:
            loss: Tensor = _PartByPart.apply(x_hat, self)
            return loss
        zero = x_hat.new_zeros(())
        return torch.stack(
            [sum(self.losses(number, x), zero) for number, x in enumerate(x_hat[:, None])]
        )

    def lines(self, number: int) -> int:
        """Return of how many lines the loss of a picture is the mean."""
        return sum(part.boxes.shape[1] for part in self._pictures[number])

    def losses(self, number: int, x_hat: Tensor) -> Iterator[Tensor]:
        """Yield scalars whose sum is the loss of one picture [1, 3, H, W], some lines each."""
        for part in self._pictures[number]:
            scores, features = self._read(x_hat, part.boxes)
            divergence = F.kl_div(scores, part.scores, reduction="none", log_target=True).sum(-1)
            losses = (divergence * part.places).sum(1)
            losses = losses + self._feature_weight * distance(features, part.features)
            yield losses.sum() / self.lines(number)

    def _read(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = self._reader.features(cut_lines(image, boxes)[0])
        scores = self._reader.read(features).log_softmax(-1)
        return scores, [features[layer] for layer in LAYERS]

    def _legible(self, image: Tensor, boxes: Tensor) -> Tensor:
        lines, _, widths = cut_lines(image, boxes)
        best, codes = self._reader(lines).softmax(-1).max(-1)
        characters = codes.ne(BLANK) & _inside(widths, codes.shape[1])
        sure = (best * characters).sum(1) / characters.sum(1).clamp_min(1)
        return boxes[0, sure >= LEGIBLE]

    def _original(self, image: Tensor, boxes: Tensor) -> _Lines:
        scores, features = self._read(image, boxes)
        widths = cut_lines(image, boxes)[2]
        codes = scores.argmax(-1)
        begins = codes != F.pad(codes, (1, 0), value=BLANK)[:, :-1]
        inside = _inside(widths, codes.shape[1])
        characters = (begins & codes.ne(BLANK) & inside).sum(1, keepdim=True)
        return _Lines(boxes, scores, inside / characters, features)


def _inside(widths: Tensor, places: int) -> Tensor:
    """Which of the recogniser's places [N, T] lie on lines of those widths in pixels [N]."""
    return STRIDE * torch.arange(places, device=widths.device) < widths[:, None]


def _parts(boxes: Tensor) -> Iterator[Tensor]:
    """Yield boxes [K, 5] as [1, N, 5], those of like width together."""
    wide = (boxes[:, 2] * HEIGHT / boxes[:, 3]).cpu()
    order = wide.argsort().tolist()
    begin = 0
    for end in range(1, len(order) + 1):
        # The last is the widest, and the others are padded to its width.
        if end == len(order) or (end + 1 - begin) * wide[order[end]] > COLUMNS:
            yield boxes[None, order[begin:end]]
            begin = end


class _PartByPart(torch.autograd.Function):
    """The loss of pictures and, at once, its gradient, so that the activations of all lines are
    never held together: for 24 lines they are some hundred MB."""

    @staticmethod
    def forward(ctx: Any, x_hat: Tensor, readings: Readings) -> Tensor:
        totals, gradient = x_hat.new_zeros(len(x_hat)), torch.zeros_like(x_hat)
        for number in range(len(x_hat)):
            picture = x_hat[number : number + 1].detach().requires_grad_()
            with torch.enable_grad():
                for loss in readings.losses(number, picture):
                    gradient[number] += torch.autograd.grad(loss, picture)[0][0]
                    totals[number] += loss.detach()
        ctx.save_for_backward(gradient)
        return totals

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return outer[0][:, None, None, None] * gradient, None
