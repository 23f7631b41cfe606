"""Types of base that plugins offer: discovered in isolation, held to the contract when used."""

from __future__ import annotations

import pytest

from mpa_core.errors import ConfigError
from mpa_core.plugins import BaseSpec

TOP = """
from mpa_core import BaseSpec, hookimpl


@hookimpl
def mpa_bases():
    return {answer}
"""

SPEC = (
    'BaseSpec(name="{name}", base="{module}.path:Base", config="{module}.path:Config", summary="B")'
)


def spec_of(module: str, name: str = "other") -> str:
    return SPEC.format(name=name, module=module)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("None", "mpa_bases() returned None; expected a list of BaseSpec"),
        ("{}", "mpa_bases() returned an object of type 'dict'; expected a list of BaseSpec"),
        ("[1]", "returned a list with an object of type 'int' in it; expected BaseSpec only"),
        (f"[{spec_of('bad')}] * 2", "mpa_bases() returned two bases named 'other'"),
        (f"[{spec_of('bad', 'Other')}]", "'Other' is not a lowercase identifier"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_wrong_answer_breaks_that_plugin_alone(site, answer: str, problem: str):
    site.install("mpa-plugin-bad", "bad", TOP.format(answer=answer))
    site.install("mpa-plugin-good", "good", TOP.format(answer=f"[{spec_of('good')}]"))
    found = site.discover()
    assert problem in found["mpa-plugin-bad"]["error"]
    good = found["mpa-plugin-good"]
    assert (good["error"], good["paths"], good["imports_torch"]) == (None, [], False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"base": "no_target"},
        {"config": "a:b:c"},
        {"presets": {"a preset": {}}},
        {"summary": "two\nlines"},
        {"recipe": "a:B"},
    ],
)
def test_a_spec_of_the_wrong_form(wrong: dict[str, object]):
    fields = {"name": "other", "base": "a:B", "config": "a:C", "summary": "A base."}
    assert BaseSpec(**fields).presets == {}
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        BaseSpec(**{**fields, **wrong})


LOOK_UP = """
    import json
    from mpa_core.errors import MPAError
    from mpa_core.plugins.bases import {function}
    try:
        {function}({type!r})
    except MPAError as error:
        print(type(error).__name__, error)
"""


def look_up(site, function: str, type_: str) -> str:
    return site.run(LOOK_UP.format(function=function, type=type_)).out.strip()


def test_a_type_that_two_distributions_claim_is_said_in_full(site):
    for letter in "ab":
        answer = f"[{spec_of(f'plugin_{letter}')}]"
        site.install(f"mpa-plugin-{letter}", f"plugin_{letter}", TOP.format(answer=answer))
    assert look_up(site, "find_base", "mpa-plugin-a:other") == ""
    assert look_up(site, "find_base", "Mpa_Plugin.B:other") == ""
    assert look_up(site, "find_base", "other") == (
        "PluginError base type 'other' is claimed by more than one plugin; say "
        "'mpa-plugin-a:other' or 'mpa-plugin-b:other'"
    )


def test_a_type_that_nobody_offers(site):
    site.install("mpa-plugin-a", "plugin_a", TOP.format(answer=f"[{spec_of('plugin_a')}]"))
    site.install("mpa-plugin-bad", "bad", TOP.format(answer="None"))
    said = look_up(site, "find_base", "mpa-plugin-a:othre")
    assert said.startswith("PluginError base type 'mpa-plugin-a:othre' is of no plugin that is")
    assert "run: pip install --upgrade mpa-plugin-a; did you mean 'mpa-plugin-a:other'?" in said
    assert said.endswith("did not load, see `mpa plugins ls`: mpa-plugin-bad")


CLASSES = """
    {first}
    from typing import ClassVar
    from mpa_core.config import BaseConfig

    class Config(BaseConfig):
        type: ClassVar[str] = {type!r}

    class Base:
        pass
"""


@pytest.mark.parametrize(
    ("source", "function", "problem"),
    [
        (
            CLASSES.format(first="", type="other"),
            "load_config_class",
            "has type = 'other', expected 'mpa-plugin-a:other', the distribution and the name",
        ),
        ("Config = 3", "load_config_class", "is 3, expected a subclass of mpa_core.config.Base"),
        ("import nothing_xyz", "load_config_class", "No module named 'nothing_xyz'"),
        (
            CLASSES.format(first="", type="mpa-plugin-a:other"),
            "load_base_class",
            "expected a subclass of mpa_core.base.api.Base",
        ),
    ],
)
def test_classes_that_break_the_contract(site, source: str, function: str, problem: str):
    top = TOP.format(answer=f"[{spec_of('plugin_a')}]")
    site.install("mpa-plugin-a", "plugin_a", top, path=source)
    said = look_up(site, function, "mpa-plugin-a:other")
    assert said.startswith("PluginError base type 'mpa-plugin-a:other': 'plugin_a.path:")
    assert problem in said


def test_check_finds_a_config_that_imports_torch(site):
    source = CLASSES.format(first="import torch", type="mpa-plugin-a:other")
    site.install(
        "mpa-plugin-a", "plugin_a", TOP.format(answer=f"[{spec_of('plugin_a')}]"), path=source
    )
    code = """
        from mpa_core.cli.main import main
        raise SystemExit(main(["plugins", "check", "mpa-plugin-a", "--format", "json"]))
    """
    done = site.run(code, check=False)
    assert done.code == 1
    (report,) = done.data
    assert report["problems"] == [
        "other: importing its config imports torch; move it to a module of its own"
    ]
