"""The workflows for GitHub say the same as pyproject.toml, and what they run is there."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from mpa_core.requirements import DISTRIBUTION

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
OURS = re.compile(r"(?:^|[ '\"/])((?:tests|\.ci)(?:/[\w.]+)*)")
EXTRAS = re.compile(r"--editable '\.\[([\w,]+)\]'")


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_the_matrix_is_of_the_pythons_and_systems_that_are_promised():
    matrix = load("ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    promised = [
        classifier.rpartition(" ")[2]
        for classifier in metadata.metadata(DISTRIBUTION).get_all("Classifier")
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", classifier)
    ]
    assert set(promised) <= set(matrix["python"])
    assert metadata.metadata(DISTRIBUTION)["Requires-Python"] == f">={matrix['python'][0]}"
    ends = {matrix["python"][0], matrix["python"][-1]}
    for system in ("macos", "windows"):
        more = [one["python"] for one in matrix["include"] if one["os"].startswith(system)]
        assert set(more) == ends, system


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_no_more_than_it_needs(path: Path):
    workflow = load(path.name)
    assert workflow["permissions"] == {"contents": "read"}
    more = {
        name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job
    }
    assert more == ({"publish": {"id-token": "write"}} if path.name == "release.yml" else {})
    for step in steps(workflow):
        if "uses" in step:
            assert re.search(r"@(v\d+(\.\d+\.\d+)?|release/v\d+)$", step["uses"]), step["uses"]
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_only_a_tag_is_published_and_only_when_all_was_checked():
    jobs = load("release.yml")["jobs"]
    assert jobs["publish"]["if"] == "github.event_name == 'push' && github.ref_type == 'tag'"
    assert jobs["publish"]["needs"] == "check"
    assert set(jobs["check"]["needs"]) == {"source", "wheels"}
    assert jobs["publish"]["environment"] == "pypi"


def test_files_and_extras_that_workflows_name_are_there():
    texts = [path.read_text(encoding="utf-8") for path in (*WORKFLOWS, ROOT / "pyproject.toml")]
    named = {name for text in texts for name in OURS.findall(text)}
    assert {".ci/try_installed.py", "tests/bitstream", "tests"} <= named
    assert {name for name in named if not (ROOT / name).exists()} == set()
    extras = {name for text in texts for names in EXTRAS.findall(text) for name in names.split(",")}
    assert extras == {"lint", "docs", "test"}
    assert extras <= set(metadata.metadata(DISTRIBUTION).get_all("Provides-Extra"))
