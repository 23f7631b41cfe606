"""What the SDK sees of the plugin."""

from __future__ import annotations

from mpa_plugin_ocr import mpa_task_paths
from PIL import Image

from mpa_core import Mix, MPACodec


def test_it_offers_one_path_with_weights_for_the_shipped_base():
    (spec,) = mpa_task_paths()
    assert spec.name == "ocr"
    assert list(spec.bundled_bases()) == ["mpa-small"]


def test_its_weights_load_and_take_part_in_a_mix(lettered):
    codec = MPACodec.from_pretrained("mpa-small")
    codec.load_path("ocr")
    data = codec.encode(Image.fromarray(lettered[0].image[:64, :64]), quality=2)
    main = codec.decode(data, Mix(), output="tensor")
    read = codec.decode(data, Mix(ocr=1.0), output="tensor")
    assert main.shape == read.shape
    assert (main - read).abs().max() > 0.01
