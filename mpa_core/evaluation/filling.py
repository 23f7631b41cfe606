"""Rows of results while they are measured, picture by picture."""

from __future__ import annotations

from typing import Any

from mpa_core.evaluation.kept import KeptFile
from mpa_core.evaluation.results import Row


class Filling:
    """A row that is filled picture by picture.

    Args:
        fields: the fields of the row that identify it.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        self.bytes: list[int] = []
        self.encode_seconds: list[float | None] = []
        self.decode_seconds: list[float] = []
        self.values: dict[str, list[Any]] = {}

    def add(self, file: KeptFile, seconds: float, values: dict[str, Any]) -> None:
        """Add a picture: its file, the processor time of decoding it, and its measures."""
        self.bytes.append(len(file.data))
        self.encode_seconds.append(None if file.seconds is None else round(file.seconds, 3))
        self.decode_seconds.append(round(seconds, 3))
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def row(self, **more: Any) -> Row:
        """Return the row of the pictures so far, with the fields ``more``."""
        return Row(
            **self.fields,
            bytes=self.bytes,
            encode_seconds=self.encode_seconds,
            decode_seconds=self.decode_seconds,
            values=self.values,
            **more,
        )
