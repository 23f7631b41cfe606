"""Every first-party path, as registered."""

from __future__ import annotations

import pytest

from mpa_core.base.tinylic.presets import PRESETS
from mpa_core.plugins.registry import registry

FIRST_PARTY = [path for path in registry().paths() if path.distribution == "mpa-core"]

# SPEC section 4: MLPs, and the three predictors.
PARAMETERS = {"mse": 2_009_728 + 32_944, "cls": 507_328 + 32_944, "seg": 507_328 + 32_944}


def test_the_set():
    assert {path.name for path in FIRST_PARTY} == set(PARAMETERS)


@pytest.mark.parametrize("path", FIRST_PARTY, ids=lambda path: path.name)
def test_parameters_on_the_full_base(path):
    path_class = registry().load_class(path.qualified_name)
    built = path_class(PRESETS["mpa-base"].decoder_path_stages)
    assert sum(tensor.numel() for tensor in built.parameters()) == PARAMETERS[path.name]


@pytest.mark.parametrize("path", FIRST_PARTY, ids=lambda path: path.name)
def test_hidden_ratio_must_be_positive(path):
    config_class = registry().load_class(path.name).Config
    assert config_class().hidden_ratio == (2.0 if path.name == "mse" else 0.5)
    with pytest.raises(ValueError, match="greater than 0"):
        config_class(hidden_ratio=0)
