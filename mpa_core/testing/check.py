"""A check: a function that raises where a path is not as it should be. Nothing here imports torch.

The functions are in :mod:`mpa_core.testing.checks`, which are imported when the first one runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

from mpa_core.arguments import did_you_mean, shown
from mpa_core.errors import ConfigError, MissingDependencyError
from mpa_core.runtime.foreign import describe

if TYPE_CHECKING:
    from mpa_core.testing.subject import PathUnderTest


class CheckFailed(AssertionError):  # noqa: N818 -- what failed is a check
    """A path does not do what the SDK asks of one; the text says what to change."""


class NotApplicable(Exception):  # noqa: N818 -- no error: a check that has nothing to look at
    """There is nothing to check: no recipe, no bundled weights, or a library that is not here."""


_PATH = {
    "discovery": ("check_light_import", "check_distribution"),
    "path": ("check_class", "check_config", "check_parts", "check_weight_share"),
    "coding": (
        "check_others_untouched",
        "check_share_zero",
        "check_same_output_each_time",
        "check_odd_sizes_and_batches",
        "check_every_base",
        "check_offline",
    ),
    "files": (
        "check_own_keys",
        "check_saved_and_loaded",
        "check_wrong_base",
        "check_bundled_weights",
        "check_card",
    ),
    "gradients": ("check_gradients",),
}
_RECIPE = {
    "recipe": (
        "check_recipe_class",
        "check_setup",
        "check_samples",
        "check_samples_repeat",
        "check_loss",
        "check_metrics",
    ),
    "reader": ("check_reader_loss",),
    "runs": ("check_loss_falls", "check_resumes"),
}


@dataclass(frozen=True)
class Check:
    """One check, called with a path: ``check(path)``.

    Raises (when called):
        CheckFailed: the path, its recipe or its distribution has a fault.
        NotApplicable: there is nothing to check.
    """

    name: str
    """Of the function, such as ``"check_parts"``: what ``expected_failures`` takes."""
    module: str
    """Below :mod:`mpa_core.testing.checks`."""
    trains: bool
    """Whether it is about the recipe, and so needs what training needs."""

    def __call__(self, path: PathUnderTest) -> None:
        """Run it."""
        try:
            self.function(path)
        except (CheckFailed, NotApplicable, KeyboardInterrupt, MemoryError):
            raise
        except MissingDependencyError as error:
            raise NotApplicable(str(error)) from error
        except BaseException as error:
            raise CheckFailed(f"{self.name}: {describe(error)}") from error

    @property
    def function(self) -> Any:
        """The function that is called."""
        return getattr(import_module(f"mpa_core.testing.checks.{self.module}"), self.name)

    @property
    def purpose(self) -> str:
        """Its question as a sentence, from the first line of its function's docstring."""
        first = cleandoc(self.function.__doc__).partition("\n")[0].removeprefix("Check that ")
        return first[0].upper() + first[1:]

    def __repr__(self) -> str:
        return self.name


def all_checks(*, train: bool = True) -> tuple[Check, ...]:
    """Every check, in the order they are best read; without ``train`` those of the path alone."""
    groups = [(_PATH, False), *([(_RECIPE, True)] if train else [])]
    return tuple(
        Check(name, module, trains)
        for group, trains in groups
        for module, names in group.items()
        for name in names
    )


def as_expected_failures(value: Mapping[str, str] | None) -> dict[str, str]:
    """``expected_failures`` as given: name of a check -> reason; raises :class:`ConfigError`."""
    if value is None:
        return {}
    known = [check.name for check in all_checks()]
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"expected_failures is {shown(value)}, expected a mapping of checks to reasons; write "
            'for example {"check_metrics": "judged by people"}'
        )
    for name, reason in value.items():
        if name not in known:
            raise ConfigError(
                f"expected_failures names {shown(name)}, which is no check; the checks are "
                f"{', '.join(known)}{did_you_mean(str(name), known)}"
            )
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigError(f"expected_failures: {name} has no reason; say why it fails")
    return dict(value)


def fail_unless(holds: bool, message: str) -> None:
    """Raise :class:`CheckFailed` with ``message`` unless it ``holds``."""
    if not holds:
        raise CheckFailed(message)


def listed(names: Collection[str], most: int = 3) -> str:
    """Return a few of ``names`` for a message, and how many more there are."""
    some = sorted(names)
    more = f" and {len(some) - most} more" if len(some) > most else ""
    return ", ".join(some[:most]) + more
