"""Checks of arguments as callers give them: brought into one form, or refused in one line.

Every public function of the SDK checks its arguments here before it begins, so that a wrong value
is an :class:`MPAError` that names the argument, and never an error from deep inside. Neither torch
nor numpy is imported.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mpa_core.errors import ConfigError, MPAError, QualityError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

_SHOWN = 60
"""Largest number of characters of a value that a message repeats."""


def shown(value: object) -> str:
    """Return ``value`` for a message: short, in one line; of large objects only the type."""
    shape = getattr(value, "shape", None)
    if isinstance(value, type):
        text = f"the class {value.__name__}"
    elif isinstance(value, (str, bytes, int, float, complex, type(None))):
        text = repr(value)
    elif isinstance(value, os.PathLike):
        text = str(value)
    elif shape:
        text = f"a {type(value).__name__} of shape {tuple(shape)}"
    elif shape is not None:  # one number, of numpy or torch
        text = str(value)
    else:
        text = f"an object of type {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def number(value: Any) -> float | None:
    """Return ``value`` as a float, if it is one real number: Python's, numpy's, or a tensor's.

    Arrays and tensors count if they have no dimensions. Text, ``True`` and ``False`` are no
    numbers. NaN and infinity are; the caller checks the range. Any other value gives None.
    """
    kind = str(getattr(value, "dtype", type(value).__name__))
    if isinstance(value, (str, bytes, bytearray)) or "bool" in kind or "complex" in kind:
        return None
    if getattr(value, "shape", ()) != ():
        return None
    try:
        return float(value)
    except Exception:  # noqa: BLE001 -- whatever a foreign type raises, it is no number
        return None


def whole_number(value: Any) -> int | None:
    """Return ``value`` as an int, if it is a :func:`number` without a fraction; else None."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = number(value)
    return int(found) if found is not None and found.is_integer() else None


def as_whole(
    value: Any, name: str, *, least: int, most: int | None = None, error: type[MPAError]
) -> int:
    """Return ``value`` as a whole number from ``least`` to ``most``; None is no upper limit.

    Raises:
        MPAError: of class ``error``, for any other value; the message calls it ``name``.
    """
    found = whole_number(value)
    if found is None or found < least or (most is not None and found > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise error(f"{name} is {shown(value)}, expected a whole number {limits}; give such a one")
    return found


MAX_QUALITY = 8
"""The highest quality that a file can store (``docs/spec/bitstream.md``); the lowest is 1."""
DEFAULT_QUALITY = 4.5
"""The quality of an encoder that is told none, and no target."""


def as_quality(value: Any, levels: int) -> float:
    """Return ``value`` as a float: a real number from 1 to ``levels``.

    Raises:
        QualityError: any other value.
    """
    found = number(value)
    if found is None or not 1 <= found <= levels:
        said = shown(value) if found is None else f"{found:g}"
        raise QualityError(
            f"quality is {said}, expected 1 (fewest bits) to {levels} (most); "
            "choose a number in that range"
        )
    return found


def as_limit(value: Any, name: str) -> int | None:
    """Return a limit: a whole number of at least 1, or None for no limit.

    Raises:
        ConfigError: any other value.
    """
    if value is None:
        return None
    found = whole_number(value)
    if found is None or found < 1:
        raise ConfigError(
            f"{name} is {shown(value)}, expected a whole number of at least 1; "
            "give None for no limit"
        )
    return found


def as_choice(value: Any, name: str, choices: Collection[str]) -> str:
    """Return ``value``, which must be one of the words ``choices``.

    Raises:
        ConfigError: any other value.
    """
    if isinstance(value, str) and value in choices:
        return value
    *most, last = map(repr, choices)
    said = f"{', '.join(most)} or {last}" if most else last
    raise ConfigError(f"{name} is {shown(value)}, expected {said}; choose one of these")


def as_flag(value: Any, name: str) -> bool:
    """Return True or False; numpy's are accepted, too.

    Raises:
        ConfigError: any other value.
    """
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise ConfigError(f"{name} is {shown(value)}, expected True or False; give one of them")


def expect(
    value: Any, kind: type[T] | tuple[type, ...], name: str, what: str, error: type[MPAError]
) -> T:
    """Return ``value``, which must be an instance of ``kind``; ``what`` describes such instances.

    True and False are not accepted as numbers.

    Raises:
        MPAError: of class ``error``, for any other value; the message calls it ``name``.
    """
    if isinstance(value, kind) and not isinstance(value, bool):
        return value  # type: ignore[return-value]
    raise error(f"{name} is {shown(value)}, expected {what}; give such a one")


def as_text(value: Any, name: str, error: type[MPAError] = ConfigError) -> str:
    """Return ``value``, which must be text.

    Raises:
        MPAError: of class ``error``, for any other value.
    """
    return expect(value, str, name, "text (str)", error)


def as_metadata(value: Any, name: str) -> bytes | None:
    """Return metadata as bytes, or None.

    Raises:
        ConfigError: any other value.
    """
    if value is None:
        return None
    kinds = (bytes, bytearray, memoryview)
    found: Any = expect(value, kinds, name, "bytes, or None for the picture's own", ConfigError)
    return bytes(found)


def as_path(value: Any, name: str, error: type[MPAError], *, home: bool = True) -> Path:
    """Return a path of the file system, whether or not anything exists there.

    With ``home``, a ``~`` at its beginning is expanded.

    Raises:
        MPAError: of class ``error``, for a value that is neither text nor a path, or that no file
            can have as its name.
    """
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise error(f"{name} is {shown(value)}, expected a name or a path; give it as str or Path")
    try:
        path = Path(value).expanduser() if home else Path(value)
        path.stat()
    except (ValueError, RuntimeError) as problem:  # a NUL character, or a home of no user
        raise error(f"{name} is {shown(value)}: {problem}; check the name") from problem
    except OSError as problem:
        if problem.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise error(
                f"{name} is {shown(value)}: {problem.strerror}; check the name and its permissions"
            ) from problem
    return path


def as_sequence(value: Any, name: str, what: str, error: type[MPAError]) -> Sequence[Any]:
    """Return ``value``, which must be a list or the like; text is not accepted.

    Raises:
        MPAError: of class ``error``, for any other value.
    """
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Sequence):
        raise error(f"{name} is {shown(value)}, expected a list of {what}; give such a one")
    return value


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """End of an error about ``name``: the one of ``known`` that is most like it, if any is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def as_device(value: Any) -> torch.device:
    """Return a device of this machine that can hold weights.

    Raises:
        ConfigError: any other value.
    """
    import torch

    here = f"here are {', '.join(_devices())}"
    if isinstance(value, torch.dtype):
        raise ConfigError(
            f"{value} is no device, expected one of this machine's; a base is float32 on all of "
            f"them, since rounded weights are another base; {here}"
        )
    said = str(value) if isinstance(value, torch.device) else value
    wrong = f"device is {shown(said)}, expected one of this machine's"
    if not isinstance(value, (str, torch.device)):
        raise ConfigError(f"{wrong}, by name; {here}")
    try:
        device = torch.device(value)
        if device.type != "meta":
            torch.zeros(1, device=device).cpu()
    except Exception as problem:
        reason = str(problem).strip().partition("\n")[0]
        raise ConfigError(f"{wrong} ({reason}); {here}") from problem
    if device.type == "meta":
        raise ConfigError(f"{wrong}: meta holds no numbers, all weights would be lost; {here}")
    return device


def _devices() -> list[str]:
    import torch

    kind = torch.accelerator.current_accelerator(check_available=True)
    count = torch.accelerator.device_count() if kind is not None else 0
    return ["cpu", *(f"{kind.type}:{index}" for index in range(count) if kind is not None)]
