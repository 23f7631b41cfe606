"""The path that checks are about, and what several of them need of it, made once. No torch here."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mpa_core.arguments import as_path, as_text
from mpa_core.errors import ConfigError, MissingDependencyError, MPAError
from mpa_core.plugins.registry import Plugin, RegisteredPath, registry
from mpa_core.testing.check import NotApplicable

if TYPE_CHECKING:
    from torch import Tensor

    from mpa_core.codec import MPACodec
    from mpa_core.paths.path import TaskPath
    from mpa_core.tasks.recipe_calls import RecipeCalls
    from mpa_core.training.settings.path import PathTrainConfig

QUALITY = 4.5
"""Pictures are coded at this quality."""

CROP = 128
"""Side of the training crops, unless the settings say otherwise."""


class Reference(NamedTuple):
    """The base's behaviour without the path: nothing of the plugin's code has run yet."""

    data: bytes
    """A picture's file."""
    main: Tensor
    """The picture by the main path."""
    other: Tensor
    """The same by a path of the SDK's own layers, with random weights."""
    fingerprint: str


class PathUnderTest:
    """An installed path and what checks make of it; its files are removed when Python ends.

    Args:
        name: of the path, ``"det"`` or ``"distribution:det"``.
        data: folder that its recipe takes for its data; None: three small photos.
        settings: of the recipe's training, ``"key=value"`` as ``mpa train path --set`` takes them.

    Raises:
        ConfigError: a value of the wrong kind.
    """

    def __init__(
        self, name: str, *, data: str | Path | None = None, settings: Sequence[str] = ()
    ) -> None:
        self.name = as_text(name, "name")
        self.settings = tuple(as_text(item, "a setting") for item in settings)
        self._data = None if data is None else as_path(data, "data", ConfigError)

    def __repr__(self) -> str:
        return self.name

    # ------------------------------------------------------------------ what is installed

    @property
    def registered(self) -> RegisteredPath:
        """The path as its plugin registered it.

        Raises :class:`mpa_core.errors.PathNotFoundError` if it is not installed.
        """
        return registry().get(self.name)

    @property
    def plugin(self) -> Plugin:
        """The plugin that brought it."""
        path = self.registered
        return next(plugin for plugin in registry().plugins if path in plugin.paths)

    def import_class(self) -> type[TaskPath]:
        """Its class; what the base does without it is kept before it is imported.

        Raises what :meth:`mpa_core.plugins.registry.Registry.load_class` does.
        """
        _ = self.reference
        return registry().load_class(self.name)

    @cached_property
    def path_class(self) -> type[TaskPath]:
        """Its class, which can be built; raises :class:`NotApplicable` where it cannot."""
        try:
            found = self.import_class()
            _built(found, self.codec, 0)
        except MPAError as error:
            raise NotApplicable("its class cannot be had, see check_class") from error
        return found

    def require_recipe(self) -> str:
        """Return the name of its recipe in messages.

        Raises:
            NotApplicable: it has none.
        """
        if self.registered.spec.recipe is None:
            raise NotApplicable(f"path {self.registered.name!r} has no recipe")
        return self.registered.recipe_name

    # ------------------------------------------------------------------ materials

    @cached_property
    def folder(self) -> Path:
        """A temporary folder of its own."""
        return _temporary()

    @property
    def data(self) -> Path:
        """The folder that the recipe takes its data from."""
        return self._data if self._data is not None else self.photos

    @property
    def photos(self) -> Path:
        """Three small photos of odd sizes."""
        return _bench().photos

    @property
    def base(self) -> Path:
        """The folder of a tiny base with random weights."""
        return _bench().base

    @property
    def codec(self) -> MPACodec:
        """A codec of :attr:`base`; a check that attaches a path to it takes the path off again."""
        return _bench().codec

    @property
    def reference(self) -> Reference:
        """The base's behaviour while nothing of the plugin has been imported on its behalf."""
        return _bench().reference

    def build(self, seed: int = 0) -> TaskPath:
        """Build the path for :attr:`base`, with weights that all do something."""
        return stirred(_built(self.path_class, self.codec, seed), seed)

    # ------------------------------------------------------------------ the recipe

    def make_recipe(self) -> RecipeCalls:
        """Its recipe as training begins with it, not set up; raises what that does."""
        from mpa_core.tasks.recipe_calls import RecipeCalls

        self.require_recipe()
        config = self.training(1)
        return RecipeCalls(self.name, config.recipe, data=config.data, seed=config.seed)

    def make_set_up(self) -> RecipeCalls:
        """Its recipe after ``setup`` on the processor; raises what that does."""
        import torch

        recipe = self.make_recipe()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.recipe.seed)
            recipe.setup(torch.device("cpu"))
        return recipe

    @cached_property
    def recipe(self) -> RecipeCalls:
        """:meth:`make_recipe`, once; raises :class:`NotApplicable` where that fails."""
        try:
            return self.make_recipe()
        except MPAError as error:
            raise NotApplicable("its recipe cannot be had, see check_recipe_class") from error

    @cached_property
    def set_up(self) -> RecipeCalls:
        """:meth:`make_set_up`, once; raises :class:`NotApplicable` where that fails."""
        _ = self.recipe
        try:
            return self.make_set_up()
        except MissingDependencyError:
            raise
        except MPAError as error:
            raise NotApplicable("its recipe cannot be set up, see check_setup") from error

    def training(self, steps: int, *more: str) -> PathTrainConfig:
        """Return the settings of a short training on :attr:`base`, by the recipe's own defaults.

        ``more`` is laid over those and over the user's.
        """
        from mpa_core.training.settings.path import load_path_config, recipe_defaults

        changes = [*_QUICK, f"budget.steps={steps}", *self.settings, *more]
        defaults = recipe_defaults(self.name)
        return load_path_config(self.name, str(self.base), None, changes, defaults=defaults)


class _Bench(NamedTuple):
    """The base and pictures that paths are tried on; the same for all paths of a process."""

    base: Path
    photos: Path
    codec: MPACodec
    reference: Reference


@cache
def _bench() -> _Bench:
    from mpa_core.codec import MPACodec
    from mpa_core.io.images import load_image
    from mpa_core.paths.path import TaskPath
    from mpa_core.runtime.surroundings import making_weights
    from mpa_core.testing.materials import small_photos, tiny_base

    folder = _temporary()
    base, photos = tiny_base(folder / "base"), small_photos(folder / "photos")
    codec = MPACodec.from_pretrained(base)
    data = codec.encode(load_image(photos / "0.png"), quality=QUALITY)
    with making_weights(0):
        neighbour = TaskPath(codec.model.config.decoder_path_stages)
    codec.attach_path(stirred(neighbour), "neighbour")
    main, other = (codec.decode(data, mix, output="tensor") for mix in ("main", "neighbour"))
    return _Bench(base, photos, codec, Reference(data, main, other, codec.fingerprint))


def _built(path_class: type[TaskPath], codec: MPACodec, seed: int) -> TaskPath:
    from mpa_core.paths.path import building_path
    from mpa_core.runtime.surroundings import making_weights

    config = codec.model.config
    with building_path(path_class), making_weights(seed):
        return path_class(config.decoder_path_stages, None, config.quality_levels)


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mpa-check-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_QUICK = (
    f"data.crop={CROP}",
    "data.batch=2",
    "data.crops_per_photo=2",
    "data.workers=0",
    "data.shards=1",
    "init.mlp=random",
    "loss.perceptual=null",
    "loss.quality_sampling=per_image",
    "optim.ema_decay=0",
    "schedule.kind=trapezoid",
    "schedule.warmup=0",
    "schedule.decay_from=0.99",
    "budget.hours=null",
    "budget.epochs=null",
    "cache.limit_gib=0",
    "run.device=cpu",
    "run.mixed_precision=no",
    "run.tensorboard=false",
)
"""Laid over a recipe's defaults: seconds instead of hours, on a processor, to the same end."""


def stirred(path: TaskPath, seed: int = 0) -> TaskPath:
    """``path`` with noise on all of its parameters: fresh weights may be silent."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in path.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return path.eval()
