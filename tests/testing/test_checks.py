"""Each check catches its fault, and finds none in a plugin without any."""

from __future__ import annotations

import pytest
from torch import nn

from mpa_core.errors import ConfigError
from mpa_core.testing import (
    CheckFailed,
    NotApplicable,
    PathUnderTest,
    all_checks,
    parametrize_with_checks,
)

CHECKS = {check.name: check for check in all_checks()}
FAST = ("data.crop=64",)

FAULTS = [
    ("check_light_import", "weighty", "torch, and is done whenever somebody lists plugins"),
    ("check_distribution", "boundless", "takes any mpa-core from now on (>=0.1)"),
    ("check_class", "misnamed", "has name = 'other', expected 'misnamed'"),
    ("check_config", "changes_itself", "does not survive being written as JSON"),
    ("check_parts", "wide_mlp", "an MLP makes (1, 4, 4, 17) of tokens (1, 4, 4, 16), expected"),
    ("check_parts", "pooled_scores", "the predictor makes (1,) of tokens (1, 4, 4, 16), expected"),
    ("check_parts", "skips_a_stage", "stage 1: it has no parts there"),
    ("check_parts", "too_few", "stage 2: 0 MLPs, expected 1, one per block"),
    ("check_parts", "sees_neighbours", "than of the picture alone; take no mean"),
    ("check_weight_share", "heavy", "weight_share=0.05; make it smaller"),
    ("check_others_untouched", "changes_torch", "the main path decodes to another picture"),
    ("check_share_zero", "not_a_number", "it must be finite"),
    ("check_same_output_each_time", "draws", "gives two pictures"),
    ("check_odd_sizes_and_batches", "square_only", "Square of task path 'square_only' fails"),
    ("check_every_base", "one_base", "on preset 'mpa-base' of base type 'tinylic' it fails"),
    ("check_offline", "calls_home", "reaches for the network while it is built"),
    ("check_own_keys", "own_state", "own_state.stages"),
    ("check_saved_and_loaded", "forgets", "a parameter or a persistent buffer"),
    ("check_wrong_base", "right", "that it was not trained on takes it"),
    ("check_bundled_weights", "misplaced", "is called as base 'mpa-small'"),
    ("check_card", "uncarded", "under which licence the weights are"),
    ("check_gradients", "idle", "parameters get no gradient (stages.1.mlps.0.unused"),
    ("check_gradients", "cut_off", "parameters get no gradient"),
    ("check_recipe_class", "bad_defaults", "its defaults: not a valid PathTrainConfig: loss.perc"),
    ("check_recipe_class", "needs_a_value", "strength: is missing"),
    ("check_recipe_class", "keeps_nothing", "its __init__ loses settings, data or seed"),
    ("check_setup", "fails_in_setup", "setup() failed: FileNotFoundError: weights.bin"),
    ("check_setup", "unfrozen", "model is in training mode after setup()"),
    (
        "check_samples",
        "tuples",
        "has an object of type tuple, expected a mpa_core.Sample",
    ),
    ("check_samples", "wrong_size", "a training sample is 64 x 40 pixels, expected 64 x 64"),
    ("check_samples_repeat", "other_each_time", "asked for twice, a sample of split 'train' is"),
    ("check_loss", "detached", "no gradient goes from task_loss() to x_hat"),
    ("check_loss", "no_number", "look for a logarithm"),
    ("check_metrics", "upside_down", "says higher_is_better=True; turn that round"),
    ("check_metrics", "hundred", "is written in percent and gives 100 and"),
    ("check_metrics", "no_metric", "metrics() has 'seen': 3, expected a mpa_core.Metric"),
    ("check_reader_loss", "no_function", "expected a function of decoded pictures, or None"),
    ("check_reader_loss", "a_float", "expected a tensor [B]"),
    ("check_reader_loss", "one_for_all", "returned the shape () for 3 pictures of 64 x 64 pixels"),
    ("check_reader_loss", "infinite", "reader_loss() gives nan, nan, nan for 3 pictures of 64 x"),
    ("check_reader_loss", "unfelt", "no gradient goes from reader_loss() to the decoded pictures"),
    ("check_reader_loss", "rounds", "the gradient of reader_loss() is zero"),
    ("check_reader_loss", "steep", "the gradient of reader_loss() is not finite"),
    ("check_reader_loss", "never_the_same", "for the same pictures; draw nothing at random"),
    ("check_reader_loss", "draws_one_of_one", "reader_loss() changes torch's random state"),
    ("check_reader_loss", "likes_noise", "for the same spoilt by noise; turn its sign round"),
    ("check_reader_loss", "even_only", "it was given 1 picture of 201 x 133 pixels"),
    ("check_reader_loss", "large_only", "returns None for 1 picture of 1 x 1 pixels"),
    ("check_reader_loss", "writes", "reader_loss() writes to the originals"),
    ("check_loss_falls", "backwards", "where it should fall"),
    ("check_resumes", "remembers", "resumed, it ends with other weights (adam."),
]


@parametrize_with_checks(["right", "own_parts"], settings=FAST)
def test_a_plugin_without_faults(path, check):
    check(path)


@pytest.mark.parametrize(("check", "name", "said"), FAULTS, ids=[f"{c}-{n}" for c, n, _ in FAULTS])
def test_each_check_catches_its_fault(check, name, said, monkeypatch):
    # Put back at the end what two of them change.
    monkeypatch.setattr(nn.LayerNorm, "forward", nn.LayerNorm.forward)
    if check == "check_wrong_base":
        for module in ("mpa_core.checkpoints", "mpa_core.checkpoints.path_folders"):
            monkeypatch.setattr(f"{module}.require_base", lambda *_: None)
    with pytest.raises(CheckFailed) as caught:
        CHECKS[check](PathUnderTest(name, settings=FAST))
    text = str(caught.value)
    assert said in text
    assert "\n" not in text


def test_there_is_a_fault_for_every_check():
    assert {check for check, _, _ in FAULTS} == set(CHECKS)


def test_what_cannot_be_checked_is_not():
    for check, name in (("check_loss", "idle"), ("check_card", "right")):
        with pytest.raises(NotApplicable):
            CHECKS[check](PathUnderTest(name))


def test_an_expected_failure_has_to_fail():
    reason = "there are no weights yet"
    mark = parametrize_with_checks(["right"], expected_failures={"check_card": reason}).mark
    marked = {case.id: case.marks for case in mark.args[1] if case.marks}
    ((xfail,),) = marked.values()
    assert list(marked) == ["right-check_card"]
    assert (xfail.name, xfail.kwargs) == ("xfail", {"reason": reason, "strict": True})


def test_expected_failures_name_checks_and_have_reasons():
    with pytest.raises(ConfigError, match=r"'check_los', which is no check.*did you mean 'check_l"):
        parametrize_with_checks(["right"], expected_failures={"check_los": "why"})
    with pytest.raises(ConfigError, match="check_loss has no reason"):
        parametrize_with_checks(["right"], expected_failures={"check_loss": " "})
    with pytest.raises(ConfigError, match="expected a list of names of paths"):
        parametrize_with_checks("right")
