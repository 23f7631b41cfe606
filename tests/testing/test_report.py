"""``mpa plugins check`` and ``check_plugin``: what they say, and what they say nothing of."""

from __future__ import annotations

import json

import pytest

from mpa_core.cli.main import main
from mpa_core.errors import ConfigError
from mpa_core.plugins import PathSpec
from mpa_core.plugins.records import Plugin, RegisteredPath
from mpa_core.testing import all_checks, check_plugin


def check(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["plugins", "check", *words])
    return code, capsys.readouterr().out


def test_what_fails_is_said_and_ends_with_1(capsys):
    code, out = check(capsys, "mpa-boundless")
    assert code == 1
    head, *lines = out.splitlines()
    assert head.startswith(
        "broken  mpa-boundless  (mpa-boundless 1.0; paths: boundless; 1 checks passed, 2"
    )
    assert any("takes any mpa-core from now on" in line for line in lines)
    assert all(line.startswith("        boundless: ") for line in lines)


def test_expected_failures_are_no_failures_and_must_fail(capsys):
    words = ["--expect", "check_distribution=a test", "--expect", "check_class=there is none"]
    code, out = check(capsys, "mpa-boundless", *words, "--format", "json")
    (report,) = json.loads(out)
    found = {each["check"]: each["status"] for each in report["checks"]}
    assert code == 0 and report["problems"] == []
    assert found.pop("check_light_import") == "passed"
    assert (found.pop("check_distribution"), found.pop("check_class")) == ("expected",) * 2
    assert set(found.values()) == {"skipped"}
    words += ["--expect", "check_light_import=because"]
    code, out = check(capsys, "mpa-boundless", *words)
    assert code == 1
    assert "it passes, and was said to fail (because); take it off that list" in out


def test_arguments_that_make_no_sense(capsys):
    assert main(["plugins", "check", "mse", "--set", "data.crop=64"]) == 2
    assert "for the trainings of --train" in capsys.readouterr().err
    assert main(["plugins", "check", "mse", "--expect", "check_card"]) == 2
    assert "is not CHECK=REASON" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="is no check"):
        list(check_plugin(Plugin("a", "a", "a", "1"), expected_failures={"nonsense": "x"}))


def test_what_did_not_load_or_needs_another_sdk_is_told_and_not_tried():
    broken = Plugin("b", "b", "mpa-plugin-b", "0.1", error="ImportError: x")
    (outcome,) = check_plugin(broken)
    assert (outcome.status, outcome.message) == ("failed", "ImportError: x")
    heavy = Plugin("h", "heavy", "mpa-plugin-h", "0.1", imports_torch=True)
    (outcome,) = check_plugin(heavy)
    assert "importing 'heavy' imports torch" in outcome.message
    spec = PathSpec(name="det", path="nowhere:Det", requires=">=99", summary="s")
    newer = Plugin("n", "n", "mpa-n", "1", (RegisteredPath(spec, "mpa-n", "1"),))
    (outcome,) = check_plugin(newer)
    assert outcome.status == "failed"
    assert 'run: pip install --upgrade "mpa-core>=99"' in outcome.message


def test_every_check_says_what_it_is_for():
    purposes = [check.purpose for check in all_checks()]
    assert all(purpose.endswith((".", ",")) or len(purpose) > 40 for purpose in purposes)
    assert len(set(purposes)) == len(purposes)
    assert [check.trains for check in all_checks(train=False)] == [False] * 18
