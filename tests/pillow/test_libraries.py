"""The libraries that open pictures with Pillow, as they are, on .mpa files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

HUGE = "a large library, which nothing of the SDK needs; pip install {} to try it"


def pixels(codec, file: Path, mix: str | None = None) -> np.ndarray:
    return codec.decode(file.read_bytes(), mix, output="array")


def test_torchvision_reads_them_in_workers(by_cls, codec, folder):
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import pil_to_tensor

    data = ImageFolder(folder, pil_to_tensor, is_valid_file=lambda path: path.endswith(".mpa"))
    assert data.classes == ["cat", "dog"]
    loader = DataLoader(data, batch_size=2, num_workers=2, timeout=120)
    found = [(x, int(label)) for xs, labels in loader for x, label in zip(xs, labels, strict=True)]
    files = sorted(folder.rglob("*.mpa"))
    assert [label for _, label in found] == [0, 0, 0, 1]
    for file, (x, _) in zip(files, found, strict=True):
        assert np.array_equal(x.permute(1, 2, 0).numpy(), pixels(codec, file, "cls"))


def test_a_worker_inherits_what_its_parent_has_decoded_with(plugin, codec, folder):
    """And with threads of torch in the parent, which a child does not have."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import pil_to_tensor

    torch.ones(512, 512).matmul(torch.ones(512, 512))
    data = ImageFolder(folder, pil_to_tensor, is_valid_file=lambda path: path.endswith(".mpa"))
    first, _ = data[0]
    loader = DataLoader(data, batch_size=1, num_workers=1, timeout=120)
    assert torch.equal(next(iter(loader))[0][0], first)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # timm's, of any format
def test_timm_reads_them(plugin, codec, folder):
    timm_data = pytest.importorskip("timm.data", reason="of the extra train")
    from timm.data.readers import add_img_extensions, del_img_extensions

    add_img_extensions(".mpa")
    try:
        data = timm_data.ImageDataset(str(folder))
    finally:
        del_img_extensions(".mpa")
    assert [data[place][1] for place in range(len(data))] == [0, 0, 0, 1]
    assert np.array_equal(np.asarray(data[3][0]), pixels(codec, folder / "dog" / "0.mpa"))


@pytest.mark.parametrize("kind", ["files", "bytes"])
def test_the_image_feature_of_hugging_face_reads_them(plugin, codec, folder, kind):
    datasets = pytest.importorskip("datasets", reason=HUGE.format("datasets"))
    for file in sorted(folder.rglob("*.mpa")):
        row = {"path": str(file), "bytes": None if kind == "files" else file.read_bytes()}
        image = datasets.Image().decode_example(row)
        assert np.array_equal(np.asarray(image), pixels(codec, file))


@pytest.mark.filterwarnings("ignore")  # Ray's own, of many kinds
def test_ray_reads_them(plugin, codec, folder, tiny_base):
    ray = pytest.importorskip("ray", reason=HUGE.format("ray[data]"))
    pytest.importorskip("ray.data", reason=HUGE.format("ray[data]"))

    def in_every_worker() -> None:
        import mpa_core.pillow  # noqa: F401

    ray.init(
        num_cpus=1,
        include_dashboard=False,
        runtime_env={
            "worker_process_setup_hook": in_every_worker,
            "env_vars": {"MPA_BASE": str(tiny_base)},
        },
    )
    try:
        found = ray.data.read_images(
            str(folder), file_extensions=["mpa"], include_paths=True, override_num_blocks=1
        ).take_all()
    finally:
        ray.shutdown()
    assert len(found) == 4
    for row in found:
        assert np.array_equal(row["image"], pixels(codec, Path(row["path"])))


def test_a_picture_is_opened_from_an_archive_too(plugin, codec, folder, tmp_path):
    """As readers of tar and zip files do, from a member that is no file of the system."""
    import zipfile

    file = folder / "cat" / "0.mpa"
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.write(file, "0.mpa")
    with (
        zipfile.ZipFile(tmp_path / "pictures.zip") as archive,
        archive.open("0.mpa") as member,
        Image.open(io.BufferedReader(member)) as image,
    ):
        assert np.array_equal(np.asarray(image), pixels(codec, file))
