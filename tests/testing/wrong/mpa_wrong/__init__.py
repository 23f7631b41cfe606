"""A plugin of paths each of which does one thing wrong; ``right`` and ``own_parts`` do none."""

from __future__ import annotations

from mpa_core import PathSpec, hookimpl

PATHS = (
    "right", "own_parts", "misnamed", "changes_itself", "wide_mlp", "pooled_scores",
    "skips_a_stage", "too_few", "sees_neighbours", "heavy", "changes_torch", "not_a_number",
    "draws", "square_only", "one_base", "calls_home", "own_state", "forgets", "idle", "cut_off",
)  # fmt: skip
RECIPES = (
    "bad_defaults", "needs_a_value", "keeps_nothing", "fails_in_setup", "unfrozen", "tuples",
    "wrong_size", "other_each_time", "detached", "no_number", "upside_down", "hundred", "no_metric",
    "backwards", "remembers",
    "never_the_same", "draws_one_of_one", "no_function", "a_float", "one_for_all", "infinite",
    "unfelt", "rounds", "steep", "likes_noise", "even_only", "large_only", "writes",
)  # fmt: skip


@hookimpl
def mpa_task_paths():
    paths = dict.fromkeys(PATHS) | {name: f"mpa_wrong.recipe:{name}" for name in RECIPES}
    paths["right"] = paths["own_parts"] = "mpa_wrong.recipe:right"
    return [
        PathSpec(name=name, path=f"mpa_wrong.path:{name}", recipe=recipe, summary="For tests.")
        for name, recipe in paths.items()
    ] + [
        PathSpec(
            name=name,
            path=f"mpa_wrong.path:{name}",
            summary="For tests.",
            weights=f"{name}_weights",
        )
        for name in ("misplaced", "uncarded")
    ]
