"""The errors of the SDK.

Every message says three things: what was found, what was expected, and what to do next. Catch
:class:`MPAError` to catch them all; on bad input the SDK raises nothing else.
"""

from __future__ import annotations


class MPAError(Exception):
    """Base class of every error that the SDK raises on purpose."""

    def __str__(self) -> str:
        """Return the message in one line, even where it repeats a name with line ends."""
        return " ".join(super().__str__().splitlines())


class ConfigError(MPAError, ValueError):
    """A configuration value or key that this version does not accept."""


class QualityError(MPAError, ValueError):
    """A quality outside the range of levels that the base codec was trained for."""


class TargetError(MPAError, ValueError):
    """A size or a fidelity that no quality gives for this picture."""


class MixError(MPAError, ValueError):
    """Shares that do not add up, or a region mask of the wrong kind or size."""


class ImageError(MPAError, ValueError):
    """An input that cannot be read as a picture, or a picture whose meaning is ambiguous."""


class BitstreamError(MPAError, ValueError):
    """A file that is not a well-formed ``.mpa`` file, or is damaged."""


class DesyncError(BitstreamError):
    """The entropy decoder got other symbols than the encoder wrote."""


class AmbiguousNameWarning(UserWarning):
    """A bare name was taken as installed although a checkpoint folder here has the same name."""


class DamageWarning(UserWarning):
    """A damaged file was decoded as far as possible, as ``errors="conceal"`` asks for."""


class MetadataWarning(UserWarning):
    """Metadata of a picture (ICC profile, EXIF) were left out, in whole or in part."""


class PictureWarning(UserWarning):
    """A picture's statement about its colours was not followed: the colours may be wrong."""


class CheckpointError(MPAError, ValueError):
    """A base or path folder that is incomplete, damaged, or of another version."""


class HubError(MPAError, OSError):
    """A repository of the Hugging Face Hub that cannot be found, reached, read or written."""


class BaseMismatchError(MPAError, ValueError):
    """A path or a file that belongs to another base codec."""


class ModelChangedError(BaseMismatchError):
    """A codec whose model is no longer the base that it was made of, or is in training mode."""


class PathNotFoundError(MPAError, LookupError):
    """A task path that is not loaded, not registered, or claimed by several distributions."""


class PluginError(MPAError, RuntimeError):
    """A plugin that could not be loaded or that breaks the plugin contract."""


class TrainingError(MPAError, RuntimeError):
    """A training run that cannot start, go on, or resume."""


class OutputError(MPAError, OSError):
    """A file or folder that could not be written."""


class MissingDependencyError(MPAError, ImportError):
    """A library of an optional extra that is not installed."""
