"""Released checkpoints: held to the golden vectors, and to exactness at other architectures."""

from __future__ import annotations

import collections
import functools
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mpa_core import checkpoints
from mpa_core.base.tinylic.config import StageConfig, TinyLICConfig
from mpa_core.coding.model import MPAModel, encoder_main_share
from mpa_core.config import PathConfig
from mpa_core.errors import CheckpointError, OutputError, PluginError
from mpa_core.importing import importer
from mpa_core.importing.importer import import_official, official_path
from mpa_core.importing.keys import base_key, path_key
from mpa_core.mix import Mix
from mpa_core.paths.aggregate import Aggregator
from mpa_core.paths.path import TaskPath
from mpa_core.plugins import PathSpec
from mpa_core.plugins.registry import Plugin, RegisteredPath, Registry, registry

TASKS = [official_path(task, "these tests") for task in range(3)]
SHARED = Path(os.environ.get("MPA_SHARED", Path(__file__).resolve().parents[3] / "shared"))
GOLDEN = SHARED / "golden" / "official_mpa"
needs_golden = pytest.mark.skipif(
    not (GOLDEN / "meta.json").is_file(),
    reason="the golden vectors are not part of the repository; MPA_SHARED names their folder",
)

CASES = [(1, 1, 3), *itertools.product([3.5], [0, 1, 2], [1, 3, 8]), (8, 1, 3)]
"""(quality, task, q_task) of the golden vectors."""


# ---------------------------------------------------------------- golden vectors


class Golden:
    def __init__(self, folder: Path) -> None:
        self.report = import_official(GOLDEN / "official_state_dict.safetensors", folder)
        self.model = checkpoints.load_base(folder / "base").model
        for name in TASKS:
            self.model.paths[name] = checkpoints.load_path(folder / name).build(TaskPath)
        self.vectors = load_file(GOLDEN / "vectors.safetensors")
        self.meta = json.loads((GOLDEN / "meta.json").read_text())
        self.own = {q: self.model.compress(self.vectors["x"], q) for q in (1, 3.5, 8)}

    def strings(self, quality: float, source: str) -> tuple[tuple[bytes], tuple[bytes]]:
        if source == "own":
            (y,), (z,) = self.own[quality]["strings"]
        else:
            y, z = (bytes(self.vectors[f"q{quality:g}.string_{s}"].tolist()) for s in "yz")
        return (y,), (z,)

    # Our strings usually are the released ones: what they decode to is computed once.
    @functools.cache  # noqa: B019 (one instance, as long-lived as the module)
    def decode(self, strings, quality: float, task: int, q_task: int) -> torch.Tensor:
        mix = Mix(**{TASKS[task]: (q_task - 1) / 7})
        return self.model.decompress(strings, (3, 4), quality, mix)["x_hat"]


@pytest.fixture(scope="module")
def golden(tmp_path_factory) -> Golden:
    return Golden(tmp_path_factory.mktemp("official"))


@needs_golden
def test_golden_cases_are_all_here(golden):
    listed = [
        (case["quality"], decode["task_idx"], decode["q_task"])
        for case in golden.meta["cases"]
        for decode in case["decodes"]
    ]
    assert sorted(listed) == sorted(CASES)


@needs_golden
def test_golden_y_and_y_hat(golden):
    model, x = golden.model, golden.vectors["x"]
    quality = model.base.quality(3.5, x)
    share = encoder_main_share(quality.value, 8)
    with torch.no_grad():
        y = model.base.analyse(x, quality, Aggregator.for_shares(model.encoder_path, share))
    assert (y - golden.vectors["q3.5.y"]).abs().max() < 1e-3
    for source in ("released", "own"):
        _, y_hat = model.decode_latents(golden.strings(3.5, source), (3, 4), 3.5)
        assert (y_hat - golden.vectors["q3.5.y_hat"]).abs().max() < 1e-3


@needs_golden
@pytest.mark.parametrize("quality", [1, 3.5, 8])
def test_golden_strings(golden, quality):
    assert tuple(golden.own[quality]["shape"]) == (3, 4)
    pairs = zip(*(golden.strings(quality, s) for s in ("own", "released")), strict=True)
    for (ours,), (theirs,) in pairs:
        # Byte for byte where this was written; float noise elsewhere may move a symbol by one.
        assert ours == theirs or abs(len(ours) - len(theirs)) <= 16


@needs_golden
@pytest.mark.parametrize("source", ["released", "own"])
@pytest.mark.parametrize(("quality", "task", "q_task"), CASES)
def test_golden_x_hat(golden, quality, task, q_task, source):
    x_hat = golden.decode(golden.strings(quality, source), quality, task, q_task)
    expected = golden.vectors[f"q{quality:g}.task{task}.qtask{q_task}.x_hat"]
    assert (x_hat - expected).abs().max() < 1e-3


@needs_golden
def test_golden_folders_fit_the_first_party_plugins(golden):
    from mpa_core.plugins.registry import registry

    for name in TASKS:
        loaded = checkpoints.load_path(golden.report["paths"][name]["folder"])
        loaded.require_base("x", golden.report["base"]["fingerprint"])
        built = loaded.build(registry().load_class(f"mpa-core:{name}"))
        assert built.name == name
        assert built.config.hidden_ratio == (2.0 if name == "mse" else 0.5)


# ---------------------------------------------------------------- other architectures


def config_of(g_a, h_a, h_s, g_s, **options) -> TinyLICConfig:
    return TinyLICConfig(
        **{
            part: tuple(StageConfig(width=w, depth=d, heads=h, window=k) for w, d, h, k in stages)
            for part, stages in {"g_a": g_a, "h_a": h_a, "h_s": h_s, "g_s": g_s}.items()
        },
        **options,
    )


CONFIGS = {
    # N = 48, M = 96, released proportions, other heads.
    "wide": config_of(
        [(48, 2, 4, 7), (72, 2, 6, 7), (96, 3, 8, 7), (96, 2, 2, 7)],
        [(72, 2, 12, 3), (72, 1, 6, 3)],
        [(72, 1, 3, 3), (72, 2, 12, 3)],
        [(96, 2, 12, 7), (96, 3, 3, 7), (72, 1, 6, 7), (48, 2, 3, 7)],
    ),
    # Nothing mirrored, ratios that truncate, windows per stage, blocks missing, six levels.
    "odd": config_of(
        [(18, 1, 2, 5), (30, 0, 1, 7), (44, 2, 4, 3), (52, 1, 1, 5)],
        [(22, 1, 2, 3), (26, 0, 1, 7)],
        [(26, 1, 13, 5), (34, 1, 2, 3)],
        [(52, 0, 1, 7), (38, 1, 2, 7), (30, 0, 1, 7), (14, 2, 2, 3)],
        mlp_ratio=1.7,
        encoder_hidden_ratio=0.3,
        quality_levels=6,
    ),
    "shallow": config_of(
        [(16, 1, 2, 7), (24, 1, 2, 7)],
        [(16, 1, 2, 3)],
        [(16, 1, 2, 3)],
        [(24, 1, 2, 7), (16, 1, 2, 7)],
    ),
}  # fmt: skip
RATIOS = {"mse": 2.0, "cls": 0.5, "seg": 0.3}


def rough(module: torch.nn.Module) -> None:
    """Random values everywhere, so that no two tensors can be confused."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not name.endswith("quantiles"):
                parameter.add_(torch.randn_like(parameter) * 0.1)


def build(config: TinyLICConfig, tasks=TASKS) -> tuple[MPAModel, dict[str, TaskPath]]:
    torch.manual_seed(0)
    model = MPAModel(config).eval()
    rough(model)
    model.update()
    paths = {}
    for name in tasks:
        paths[name] = TaskPath(
            config.decoder_path_stages, PathConfig(hidden_ratio=RATIOS[name]), config.quality_levels
        )
        rough(paths[name])
    return model, paths


def released(config: TinyLICConfig, tasks=TASKS) -> dict[str, torch.Tensor]:
    model, paths = build(config, tasks)
    tensors = {base_key(name): t for name, t in model.frozen_state().items()}
    for name, path in paths.items():
        index = TASKS.index(name)
        tensors |= {path_key(key, index): t for key, t in path.state_dict().items()}
    return tensors


@pytest.mark.parametrize("name", CONFIGS)
def test_other_architectures_come_through_exactly(tmp_path, name):
    config = CONFIGS[name]
    tensors = released(config)
    file = tmp_path / "model.pth.tar"
    torch.save(
        {
            "epoch": np.int64(3),
            "loss": np.float64(0.25),
            "best": np.float32(1.0),
            "done": np.bool_(True),
            "state_dict": collections.OrderedDict((f"module.{k}", v) for k, v in tensors.items()),
            "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.ones(2)}}, "param_groups": []},
        },
        file,
    )
    report = import_official(file, tmp_path / "out")
    model, paths = build(config)
    loaded = checkpoints.load_base(tmp_path / "out" / "base")
    assert report["base"]["fingerprint"] == loaded.fingerprint
    same = config.model_copy(
        update={
            "mlp_ratio": loaded.config.mlp_ratio,
            "encoder_hidden_ratio": loaded.config.encoder_hidden_ratio,
        }
    )
    # Heads and window of a stage without blocks are nobody's business.
    assert loaded.config.model_dump() == same.model_dump()
    for key, tensor in model.frozen_state().items():
        assert torch.equal(loaded.tensors[key], tensor), key
    assert report["paths"].keys() == set(TASKS)
    for task, path in paths.items():
        built = checkpoints.load_path(tmp_path / "out" / task).build(TaskPath)
        state = built.state_dict()
        assert state.keys() == path.state_dict().keys()
        for key, tensor in path.state_dict().items():
            assert torch.equal(state[key], tensor), key


# ---------------------------------------------------------------- variants of one file

SMALL = CONFIGS["shallow"]


@pytest.fixture(scope="module")
def small() -> dict[str, torch.Tensor]:
    return released(SMALL, tasks=("cls",))


def write(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    file = folder / "state.safetensors"
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, file)
    return file


def test_only_the_tasks_present_are_written(tmp_path, small):
    report = import_official(write(tmp_path, small), tmp_path / "out")
    assert list(report["paths"]) == ["cls"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["base", "cls"]
    loaded = checkpoints.load_path(tmp_path / "out" / "cls")
    assert loaded.meta.base.repo_id == report["base"]["name"] == "out/base"
    assert loaded.meta.base.fingerprint == report["base"]["fingerprint"]
    json.dumps(report)
    stage_one = {
        k: v for k, v in small.items() if "g_s" not in k or not (".fast" in k or "_pred" in k)
    }
    assert import_official(write(tmp_path, stage_one), tmp_path / "one")["paths"] == {}


def test_a_task_that_no_installed_path_is_is_refused(tmp_path, small, monkeypatch):
    source = write(tmp_path, small)
    monkeypatch.setenv("MPA_PLUGINS", "mse")
    registry(refresh=True)
    try:
        with pytest.raises(CheckpointError, match=r"has a task 1, .*MPA_PLUGINS load it"):
            import_official(source, tmp_path / "out")
    finally:
        monkeypatch.undo()
        registry(refresh=True)
    assert not (tmp_path / "out").exists()


def test_a_task_that_two_paths_are_is_refused(monkeypatch):
    paths = tuple(
        RegisteredPath(PathSpec(name=name, path="m:P", official=1, summary="s"), "d", "1")
        for name in ("one", "other")
    )
    both = Registry((Plugin("d", "m", "d", "1", paths),))
    monkeypatch.setattr(importer, "registry", lambda: both)
    with pytest.raises(PluginError, match=r"d:one and d:other both say"):
        official_path(1, "released.pth.tar")


def test_tables_are_computed_where_training_left_none(tmp_path, small):
    whole = import_official(write(tmp_path, small), tmp_path / "a")["base"]["fingerprint"]
    constants = ("_quantized_cdf", "_offset", "_cdf_length", "scale_table")
    empty = {
        k: torch.empty(0, dtype=v.dtype) if k.endswith(constants) else v for k, v in small.items()
    }
    absent = {k: v for k, v in small.items() if not k.endswith((*constants, ".bound", ".target"))}
    for number, tensors in enumerate((empty, absent)):
        report = import_official(write(tmp_path, tensors), tmp_path / str(number))
        assert report["base"]["fingerprint"] == whole


def test_spellings_prefixes_and_old_files(tmp_path, small):
    whole = import_official(write(tmp_path, small), tmp_path / "a")["base"]["fingerprint"]
    renamed = {
        k.replace("._matrix", ".matrices.").replace("._bias", "._biases."): v
        for k, v in small.items()
    }
    assert renamed.keys() != small.keys()
    report = import_official(write(tmp_path, renamed), tmp_path / "b")
    assert report["base"]["fingerprint"] == whole
    old = tmp_path / "old.pth.tar"
    torch.save(small, old, _use_new_zipfile_serialization=False)
    assert import_official(old, tmp_path / "c")["base"]["fingerprint"] == whole


def test_half_precision_is_widened(tmp_path, small):
    half = {k: v.half() if v.is_floating_point() else v for k, v in small.items()}
    import_official(write(tmp_path, half), tmp_path / "out")
    loaded = checkpoints.load_base(tmp_path / "out" / "base")
    assert torch.equal(loaded.tensors["base.y_gains.gain"], small["Gain"].half().float())


def without(*names):
    return lambda t: [t.pop(name) for name in names]


def nan(t):
    t["Gain"] = torch.full_like(t["Gain"], torch.nan)


SPOILT = {
    "gain": (without("Gain"), "has no tensor 'Gain'"),
    "conv": (without("h_s1.weight"), r"has no tensor 'h_s1\.weight'"),
    "bias": (
        without("g_a0.bias", "h_s1.bias"),
        r"lacks g_a0\.bias, h_s1\.bias; give a whole",
    ),
    "side": (
        without("g_s2.residual_group.blocks.0.fastmlp.mlp_list.1.fc2.bias"),
        r"lacks g_s2\.residual_group\.blocks\.0\.fastmlp\.mlp_list\.1\.fc2\.bias",
    ),
    "transform": (
        lambda t: [t.pop(k) for k in list(t) if k.startswith("h_a")],
        "has no tensors of h_a",
    ),
    "left over": (
        lambda t: t.update({"g_a0.extra": torch.ones(1), "wm.weight": torch.ones(1)}),
        r"tensors of an unknown purpose: g_a0\.extra, wm\.weight",
    ),
    "fourth task": (
        lambda t: t.update(
            {k.replace("mlp_list.1", "mlp_list.3"): v for k, v in t.items() if "mlp_list.1" in k}
        ),
        "has a task 3, which is none of the installed paths",
    ),
    "mask": (
        lambda t: t.update({"sc_transform_4.mask": torch.ones(2, 1, 5, 5)}),
        r"sc_transform_4\.mask is not the context mask",
    ),
    "nan": (nan, "NaN or infinity in 'Gain'"),
    "dims": (lambda t: t.update({"Gain": t["Gain"][0]}), "expected 2 dimensions"),
    "shape": (
        lambda t: t.update({"g_a0.weight": torch.ones(16, 3, 3, 3)}),
        r"'base\.g_a\.stages\.0\.conv\.weight' is .*\[16, 3, 3, 3\], expected",
    ),
    "ratios": (
        lambda t: t.update(
            {"g_a1.residual_group.blocks.0.mlp.fc1.weight": torch.ones(7, 16)}
        ),
        r"hidden widths .*7/16.*expected one ratio",
    ),
    "heads": (
        lambda t: t.update({"g_a1.residual_group.blocks.0.attn.rpb": torch.ones(3, 13, 13)}),
        "width 16 is not a multiple of heads 3",
    ),
    "float64": (lambda t: t.update({"Gain": t["Gain"].double()}), "is torch.float64"),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_not_understood_is_refused(tmp_path, small, how):
    spoil, message = SPOILT[how]
    tensors = dict(small)
    spoil(tensors)
    with pytest.raises(CheckpointError, match=message) as error:
        import_official(write(tmp_path, tensors), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_masks_that_agree_are_accepted(tmp_path, small):
    entropy = build(SMALL, tasks=())[0].base.entropy
    masks = {
        f"sc_transform_{i}.mask": context.mask.expand(2, 1, -1, -1)
        for i, context in enumerate(entropy.spatial_contexts.values(), 1)
    }
    assert len(masks) == 5
    import_official(write(tmp_path, small | masks), tmp_path / "out")


class Trap:
    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (b"", "neither a torch checkpoint nor safetensors"),
        (b"not a checkpoint\n" * 20, "is no torch checkpoint|neither a torch checkpoint"),
        ({"state_dict": {"a": Trap()}}, "holds 'print', expected tensors and numbers"),
        ({"state_dict": {}}, "holds no tensors under 'state_dict'"),
        ([1, 2], "holds no tensors"),
        ({"conv1.weight": torch.ones(1)}, "has no tensors of g_a"),
    ],
)
def test_what_is_no_released_checkpoint(tmp_path, capsys, content, message):
    file = tmp_path / "x.pth.tar"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match=message) as error:
        import_official(file, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "out").exists()


def test_a_file_cut_short(tmp_path, small):
    file = tmp_path / "x.pth.tar"
    torch.save({"state_dict": small}, file)
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(CheckpointError, match=r"cut short.*download it again"):
        import_official(file, tmp_path / "out")


def test_existing_folders_are_kept_unless_forced(tmp_path, small):
    file = write(tmp_path, small)
    (tmp_path / "out" / "cls").mkdir(parents=True)
    (tmp_path / "out" / "cls" / "path_config.json").write_text("mine")
    with pytest.raises(OutputError, match="cls already exists and was left as it is"):
        import_official(file, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["cls"]
    assert (tmp_path / "out" / "cls" / "path_config.json").read_text() == "mine"
    import_official(file, tmp_path / "out", force=True)
    assert checkpoints.load_path(tmp_path / "out" / "cls").meta.path_type == "cls"
