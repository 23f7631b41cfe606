"""Compressed pictures as training data: folders and shards to tensors by a path."""

from __future__ import annotations

import io
import pickle
import tarfile

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from mpa_core import MPACodec
from mpa_core.data import MPAImageFolder, webdataset_decoder
from mpa_core.errors import BaseMismatchError, BitstreamError, ImageError, MixError


@pytest.fixture
def options(tiny_base, tiny_cls_path) -> dict[str, object]:
    return {"base": tiny_base, "load": [str(tiny_cls_path)]}


def close(x: torch.Tensor, expected: torch.Tensor) -> bool:
    """The same but for the order in which a batch sums."""
    return x.shape == expected.shape and bool((x - expected).abs().max() < 1e-5)


def test_a_folder_is_tensors_by_a_path(codec, folder, options):
    data = MPAImageFolder(folder, "cls", **options)
    assert (data.classes, data.class_to_idx) == (["cat", "dog"], {"cat": 0, "dog": 1})
    assert (len(data), data.targets) == (4, [0, 0, 0, 1])
    for place, (path, number) in enumerate(data.samples):
        x, label = data[place]
        assert (x.dtype, label) == (torch.float32, number)
        assert close(x, codec.decode(path.read_bytes(), "cls", output="tensor"))
        assert not x.is_inference()  # it can be trained on


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_batches(codec, folder, options, workers):
    data = MPAImageFolder(folder, {"cls": 0.4}, **options, target_transform=lambda n: n + 1)
    loader = DataLoader(Subset(data, [0, 2, 3]), batch_size=3, num_workers=workers, timeout=0)
    ((xs, labels),) = loader
    assert (xs.shape, labels.tolist()) == ((3, 3, 48, 48), [1, 1, 2])
    for x, place in zip(xs, (0, 2, 3), strict=True):
        file = data.samples[place][0].read_bytes()
        assert close(x, codec.decode(file, {"cls": 0.4}, output="tensor"))


def test_a_batch_is_decoded_in_one_call(folder, options, monkeypatch):
    calls = []
    together = MPACodec.decode_many

    def counted(self, files, *args, **kwargs):
        calls.append(len(files))
        return together(self, files, *args, **kwargs)

    monkeypatch.setattr(MPACodec, "decode_many", counted)
    (batch,) = DataLoader(MPAImageFolder(folder, **options), batch_size=4)
    assert (calls, len(batch[0])) == ([4], 4)


def test_pictures_of_several_sizes_are_transformed(codec, folder, options, photo):
    (folder / "dog" / "1.mpa").write_bytes(codec.encode(photo))
    sizes = [tuple(x.shape) for x, _ in MPAImageFolder(folder, **options)]
    assert sizes == [*[(3, 48, 48)] * 4, (3, 40, 72)]
    data = MPAImageFolder(folder, **options, transform=lambda x: x[:, :32, :32])
    ((xs, _),) = DataLoader(data, batch_size=5)
    assert xs.shape == (5, 3, 32, 32)


def test_a_copy_loads_its_own_codec(folder, options):
    data = MPAImageFolder(folder, "cls", **options)
    x, _ = data[0]
    sent = pickle.dumps(data)
    assert len(sent) < 10_000
    assert torch.equal(pickle.loads(sent)[0][0], x)


def test_a_damaged_file_is_named(codec, folder, options):
    path = folder / "cat" / "1.mpa"
    path.write_bytes(path.read_bytes()[:-1])
    data = MPAImageFolder(folder, **options)
    with pytest.raises(BitstreamError, match=r"cat.1\.mpa: truncated"):
        data[1]
    with pytest.raises(BitstreamError, match=r"cat.1\.mpa: truncated"):
        data.__getitems__([0, 1, 2])
    assert data[0][0].shape == (3, 48, 48)
    with pytest.raises(BitstreamError, match="limit"):
        MPAImageFolder(folder, **options, max_pixels=100)[0]
    with pytest.raises(BaseMismatchError, match=r"0\.mpa: .*base="):
        MPAImageFolder(folder)[0]


def test_what_is_no_data_set_is_said(folder, tmp_path):
    with pytest.raises(ImageError, match="no folder"):
        MPAImageFolder(tmp_path / "gone")
    with pytest.raises(ImageError, match=r"no \.mpa files in sub-folders"):
        MPAImageFolder(folder / "cat")
    with pytest.raises(MixError):
        MPAImageFolder(folder, "cls=3")


# ---------------------------------------------------------------------- WebDataset


def test_an_entry_is_decoded_and_others_are_left(codec, data, options):
    decode = webdataset_decoder("cls", **options)
    assert close(decode(".mpa", data), codec.decode(data, "cls", output="tensor"))
    assert close(decode("left.MPA", data), decode("mpa", data))
    assert decode(".jpg", data) is None
    assert decode(".mpa.json", b"{}") is None
    assert torch.equal(pickle.loads(pickle.dumps(decode))("mpa", data), decode("mpa", data))
    with pytest.raises(BitstreamError, match="truncated"):
        decode(".mpa", data[:-1])


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # its shard
def test_webdataset_reads_shards(codec, folder, options, tmp_path):
    webdataset = pytest.importorskip(
        "webdataset", reason="nothing of the SDK needs it; pip install webdataset to try it"
    )
    shard = tmp_path / "shard.tar"
    files = sorted(folder.rglob("*.mpa"))
    with tarfile.open(shard, "w") as archive:
        for number, file in enumerate(files):
            for suffix, content in (("mpa", file.read_bytes()), ("cls", b"%d" % number)):
                entry = tarfile.TarInfo(f"{number:03d}.{suffix}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    shards = webdataset.WebDataset(str(shard), shardshuffle=False)
    found = list(shards.decode(webdataset_decoder(**options)).to_tuple("mpa", "cls"))
    assert [number for _, number in found] == [0, 1, 2, 3]
    for file, (x, _) in zip(files, found, strict=True):
        expected = codec.decode(file.read_bytes(), output="array")
        assert np.abs(x.permute(1, 2, 0).numpy() * 255 - expected).max() <= 0.51
