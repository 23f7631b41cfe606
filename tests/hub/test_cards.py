"""Cards: written without any library, read and completed by the Hub's own."""

from __future__ import annotations

import io
import json

import huggingface_hub
import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from PIL import Image
from ruamel.yaml import YAML

from mpa_core import MPACodec, checkpoints
from mpa_core.checkpoints import cards
from mpa_core.checkpoints.model_cards import complete_card, missing_of, read_card
from mpa_core.errors import ConfigError

TAGS = ["mpa", "image-compression", "learned-image-compression"]


def figure(**changes: object) -> EvalResult:
    given = {
        "task_type": "image-to-image",
        "dataset_type": "photos",
        "dataset_name": "24 photos",
        "dataset_args": {"pictures": 24},
        "metric_type": "psnr",
        "metric_name": "PSNR (dB)",
        "metric_value": 31.5,
        "metric_args": {"quality": 3.0, "bpp": 0.25},
    }
    return EvalResult(**{**given, **changes})


def stored_card(repository, name: str = "README.md") -> str:
    return repository.commits[repository.refs["main"]][name].data.decode()


@pytest.mark.parametrize(
    "text",
    ["mit", "apache-2.0", "no", "1.5", "0x10", "a: b", "#x", "ünïcode", "two\nlines", "-", "", "~"],
)
def test_any_text_is_read_back_as_it_was(text):
    written = cards.front_matter({"license": text, "tags": [text, "x"]})
    data = ModelCard(f"{written}\n# Card\n").data
    assert (data.license, data.tags) == (text, list(dict.fromkeys([text, "x"])))


def test_nested_values_are_read_back_as_they_were():
    wanted = {
        "model-index": [
            {"name": "no", "results": [{"args": {"a": 1e-05, "b": 2.5e30, "c": -3}, "list": [1]}]},
            {"name": "x: y", "results": [[1.0, "2"], {"z": "3"}]},
        ],
        "tags": ["x"],
    }
    written = cards.front_matter(wanted).removeprefix("---\n").removesuffix("---\n")
    for loader in (yaml.safe_load, YAML(typ="safe").load):  # YAML 1.1 and 1.2
        assert loader(written) == wanted


def test_a_plain_card_claims_no_licence(codec, tmp_path):
    codec.save_path("cls", tmp_path / "path")
    text = (tmp_path / "path" / "README.md").read_text(encoding="utf-8")
    card = read_card(text)
    assert card.data.to_dict() == {
        "library_name": "mpa",
        "pipeline_tag": "image-to-image",
        "tags": [*TAGS, "mpa-path"],
    }
    assert cards.NO_LICENCE in card.text
    assert len(missing_of(card)) == 3
    codec.save_path("cls", tmp_path / "path", license="cc-by-4.0")
    text = (tmp_path / "path" / "README.md").read_text(encoding="utf-8")
    assert read_card(text).data.license == "cc-by-4.0"
    assert cards.NO_LICENCE not in text


def test_the_card_of_a_published_path(hub, published, sample):
    published.push_path_to_hub(
        "cls", "lab/cls", license="mit", eval_results=[figure()], sample=sample
    )
    repository = hub.repositories["lab/cls"]
    card = ModelCard(stored_card(repository))
    data = card.data.to_dict()
    assert data["license"] == "mit"
    assert (data["base_model"], data["base_model_relation"]) == ("lab/base", "adapter")
    assert (data["library_name"], data["tags"]) == ("mpa", [*TAGS, "mpa-path"])
    (index,) = data["model-index"]
    assert index["name"] == "lab/cls"
    (result,) = index["results"]
    assert result["dataset"] == {
        "name": "24 photos",
        "type": "photos",
        "args": {"pictures": 24},
    }
    assert result["metrics"][0]["value"] == 31.5
    assert "| PSNR (dB) | 31.5 | quality 3.0, bpp 0.25 | 24 photos | 24 |" in card.text
    commit = published.origin.revision
    assert f'MPACodec.from_pretrained("lab/base", revision="{commit}")' in card.text
    assert 'codec.load_path("lab/cls")' in card.text
    assert missing_of(card) == []
    picture = repository.commits[repository.refs["main"]]["sample.png"].data
    with Image.open(io.BytesIO(picture)) as image:
        assert image.size == (3 * 320 + 2 * 6, 240)
    assert "From left: original, main path, cls path; one file of" in card.text


def test_figures_say_of_how_many_pictures_they_are(hub, published):
    for wrong in (None, {}, {"pictures": 0}, {"pictures": "many"}):
        with pytest.raises(ConfigError, match=r"does not say of how many pictures it is; give it "):
            published.push_to_hub("lab/base", eval_results=[figure(dataset_args=wrong)])
    with pytest.raises(ConfigError, match=r"expected huggingface_hub\.EvalResult"):
        published.push_to_hub("lab/base", eval_results=["31.5 dB"])


def test_what_an_author_wrote_stays(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    meta = checkpoints.read_base_meta(tmp_path)
    text = "---\nlicense: mit\nlanguage: de\ntags: [mine]\n---\n# Mine\n\nMy words.\n"
    done = complete_card(text, meta, eval_results=[figure()], sample="A cat")
    again = complete_card(done, meta, eval_results=[figure(metric_value=33)], sample="A dog")
    card = ModelCard(again)
    assert (card.data.license, card.data.language) == ("mit", "de")
    assert card.data.tags == ["mine", *TAGS, "mpa-base"]
    assert "My words." in card.text and card.text.count("## Sample") == 1
    assert "A dog" in card.text and "A cat" not in card.text
    assert "| 33 |" in card.text and "31.5" not in again


def test_the_bundled_cards_are_cards():
    for folder in checkpoints.bundled_bases().values():
        assert read_card((folder / "README.md").read_text("utf-8")).data.license == "apache-2.0"


def test_saving_imports_nothing_of_the_hub(codec, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("huggingface_hub was used")

    for name in ("ModelCard", "ModelCardData", "HfApi", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, refuse)
    codec.save_pretrained(tmp_path / "base")
    codec.save_path("cls", tmp_path / "cls")
    assert MPACodec.from_pretrained(tmp_path / "base").load_path(tmp_path / "cls") == "cls"


def test_figures_of_mpa_eval(codec, tmp_path):
    from mpa_core.evaluation.figures import card_figures
    from mpa_core.evaluation.picture_set import PictureSet
    from mpa_core.evaluation.results import MetricInfo, Results, Row
    from mpa_core.tasks.metric import DECIBEL

    base = tmp_path / "base"
    codec.save_pretrained(base)
    codec.save_path("cls", tmp_path / "cls")
    path = checkpoints.read_path_meta(tmp_path / "cls")
    results = Results()
    pictures = PictureSet("photos", ["a", "b"], ["1", "2"], [(10, 10), (10, 10)])
    results.sets[pictures.key] = pictures
    results.define(MetricInfo("psnr", "PSNR", True, unit=DECIBEL))

    def row(mix: str | None, source: dict[str, str], value: float, **more: object) -> None:
        times = {"encode_seconds": [None] * 2, "decode_seconds": [0.1] * 2}
        about = {"codec": "x", "setting": 3.0, "mix": mix, "source": source, **more}
        values = {"psnr": [value, value + 2]}
        results.add(Row(pictures.key, bytes=[25, 50], **times, **about, values=values))

    digits, own = codec.fingerprint[:16], path.fingerprint[:16]
    row("main=1", {"base": digits}, 30)
    row("mine=1", {"base": digits, "mine": own}, 28)
    row("main=0.5,mine=0.5", {"base": digits, "mine": own}, 29)
    row("cls=1", {"base": digits, "cls": "0" * 16}, 20)
    row(None, {"version": "1"}, 25)
    results.save(tmp_path / "results.json")
    for meta, value in ((checkpoints.read_base_meta(base), 31), (path, 29)):
        (found,) = card_figures(tmp_path / "results.json", meta)
        assert found.metric_value == value
        assert found.dataset_args == {"pictures": 2, "protocol": "whole"}
        assert found.dataset_name == f"photos, whole ({pictures.key})"
        assert found.metric_args == {"quality": 3.0, "bpp": 3.0}
        assert (found.metric_type, found.metric_name) == ("psnr", "PSNR (dB)")
    stranger = MPACodec.from_preset("mpa-tiny", seed=5)
    stranger.save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"has no figures of base 'mpa-tiny-random-5'"):
        card_figures(tmp_path / "results.json", checkpoints.read_base_meta(tmp_path / "other"))
    assert json.loads((tmp_path / "results.json").read_text())["format"] == 3
