"""Photos in class folders, named by ImageNet's index, synset or name, and crops of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpa_core.errors import TrainingError
from mpa_core.tasks import Indexed, PhotoFolder, Sample, WholePhotos, plugin_sequence

_STREAM = 40
"""Number of the random stream; see :mod:`mpa_core.tasks.seeds`."""


class ClassFolders:
    """The ImageNet-1k classes by the names of folders."""

    def __init__(self) -> None:
        from timm.data import ImageNetInfo

        info = ImageNetInfo("imagenet-1k")
        names: dict[str, set[int]] = {}
        for index, synset in enumerate(info.label_names()):
            words = [str(index), synset, *info.index_to_description(index).split(",")]
            for word in words:
                names.setdefault(self._plain(word), set()).add(index)
        self._names = names

    def index(self, folder: str) -> int:
        """Return the class, 0 to 999, of a folder called ``folder``.

        Raises:
            TrainingError: the name is that of no class, or of several.
        """
        found = self._names.get(self._plain(folder), set())
        if len(found) != 1:
            what = f"the name of {len(found)} ImageNet classes" if found else "no ImageNet class"
            raise TrainingError(
                f"class folder {folder!r} is {what}; call it by its index (0 to 999), its synset "
                "(n01440764) or an unambiguous name (tench), or set recipe.label to soft"
            )
        (index,) = found
        return index

    @staticmethod
    def _plain(name: str) -> str:
        return " ".join(name.replace("_", " ").lower().split())


class LabelledPhotos(Indexed[Sample]):
    """Whole photos; target ``label``, int64 scalar, from the folder that a photo lies in.

    Args:
        folder: folder of class folders.
        cache_mib: memory in MiB in which decoded photos are kept.

    Raises:
        TrainingError: no photo can be used, or a folder is no class.
    """

    def __init__(self, folder: Path, *, cache_mib: int) -> None:
        self.whole = WholePhotos(folder, cache_mib=cache_mib)
        self.paths = self.whole.paths
        self.labels = _labels(self.paths)

    def __len__(self) -> int:
        return len(self.whole)

    def item(self, index: int) -> Sample:
        """Return sample ``index``.

        Raises:
            ImageError: its photo is damaged.
        """
        return Sample(self.whole[index].image, {"label": torch.tensor(self.labels[index])})


class LabelledCrops(Indexed[Sample]):
    """Random resized crops, half of them mirrored, with hard or mixed labels.

    Without ``mixup`` sample ``i`` is the same every time it is asked for, with target ``label``.
    With it each is drawn anew by torch's generator, which stage 2 seeds before each step, and mixed
    with another; the target is ``probabilities``.

    Args:
        folder: folder of class folders.
        crop: side in pixels.
        per_photo: number of crops of each photo.
        seed: seed of the fixed crops.
        mixup: timm's ``Mixup``, or None.
        cache_mib: memory in MiB in which decoded photos are kept.

    Raises:
        TrainingError: no photo can be used, or a folder is no class.
    """

    def __init__(
        self, folder: Path, crop: int, *, per_photo: int, seed: int, mixup: Any, cache_mib: int
    ) -> None:
        # Here, since the recipe's loss for readers does not need it.
        from torchvision.transforms import v2 as transforms

        self.photos = PhotoFolder(folder, min_side=1, cache_mib=cache_mib)
        self.labels = _labels(self.photos.paths)
        self.per_photo = per_photo
        self.seed = seed
        self.mixup = mixup
        self.view = transforms.Compose(
            [
                transforms.RandomResizedCrop(crop, antialias=True),
                transforms.RandomHorizontalFlip(),
            ]
        )

    def __len__(self) -> int:
        return len(self.photos) * self.per_photo

    def item(self, index: int) -> Sample:
        """Return sample ``index``.

        Raises:
            ImageError: a photo of it is damaged.
        """
        photo = index // self.per_photo
        if self.mixup is None:
            with _seeded(plugin_sequence(self.seed, _STREAM, index)):
                crop, label = self._crop(photo)
            return Sample(_to_array(crop), {"label": torch.tensor(label)})
        with _seeded(np.random.SeedSequence(int(torch.randint(2**62, ())))):
            other = int(torch.randint(len(self.photos), ()))
            crops, labels = zip(*map(self._crop, (photo, other)), strict=True)
            mixed, targets = self.mixup(torch.stack(crops).float(), torch.tensor(labels))
        return Sample(_to_array(mixed[0].round().byte()), {"probabilities": targets[0]})

    def _crop(self, photo: int) -> tuple[Tensor, int]:
        pixels = torch.from_numpy(self.photos[photo]).permute(2, 0, 1)
        return self.view(pixels), self.labels[photo]


def _labels(paths: Sequence[Path]) -> list[int]:
    classes = ClassFolders()
    return [classes.index(path.parent.name) for path in paths]


def _to_array(image: Tensor) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


@contextmanager
def _seeded(sequence: np.random.SeedSequence) -> Iterator[None]:
    """Seed both global generators for the block and restore them: timm draws from NumPy's."""
    state = np.random.get_state()
    low, high = (int(word) for word in sequence.generate_state(2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(low | high << 32)
        np.random.seed(low)
        try:
            yield
        finally:
            np.random.set_state(state)
