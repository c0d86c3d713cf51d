"""The words of a recipe: its own keys, and how its stages, axes and levels may be called."""

import re

TOP = {
    "description": "text for people",
    "extends": "another recipe, or a list of them, whose stages this one takes over and may override",
    "models": "roles of this recipe, each bound to a model of params.yaml",
    "stages": "the stages by name",
    "axes": "ablations: axis: {level: {stages.<stage>.<key>: value}}",
    "publish": "stages whose model is kept in git, each with its folder; such a stage is frozen",
    "budget": "the most that its own stages may spend together, in the currency of `prices` in params.yaml; never tracked",
}
SECTIONS = ("models", "stages", "axes", "publish")
"""The keys of a recipe that hold a mapping."""
BUDGET = "budget"
"""A key of a recipe and of each of its stages."""
NAME = "lower-case letters, digits and hyphens, 40 at most, beginning with a letter"
RESERVED = ("counts",)
"""Names that are no stage's to take."""


def is_name(text: object) -> bool:
    """Whether a stage, an axis or a level may be called that: NAME, and no two hyphens together, which join a variant's parts."""
    return isinstance(text, str) and re.fullmatch(r"(?!.*--)[a-z][a-z0-9-]{0,39}", text) is not None
