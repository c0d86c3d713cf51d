"""Axes: which keys of which stages each level sets, and which axes a stage is expanded by."""

from collections.abc import Mapping
from typing import Any

from drp.errors import choices
from drp.recipe.drafts import Axes, Draft, Drafts, Settings
from drp.recipe.read import Path_
from drp.recipe.stages import Value, resolved_file
from drp.recipe.words import BUDGET, NAME, is_name


def axes_of(drafts: Drafts) -> Axes:
    """The axes of a recipe as written, over the stages that it has."""
    axes: Axes = {}
    for axis, levels in drafts.section("axes").items():
        axes[axis] = {}
        if not isinstance(levels, dict) or not levels:
            drafts.say(("axes", axis), "an axis is a mapping of levels")
            continue
        for level, settings in levels.items():
            path = ("axes", axis, str(level))
            if not is_name(str(level)) or not is_name(axis):
                drafts.say(path, f"an axis and its levels are named by {NAME}", "key")
            axes[axis][str(level)] = _settings(drafts, path, settings)
    return axes


def _settings(drafts: Drafts, path: Path_, written: Any) -> Settings:
    found: Settings = {}
    if not isinstance(written, dict | None):
        drafts.say(path, f"{written!r} is not a mapping of stages.<stage>.<key> to values")
        return found
    for where, data in (written or {}).items():
        place, parts = (*path, str(where)), str(where).split(".")
        if len(parts) != 3 or parts[0] != "stages" or parts[1] not in drafts.stages:
            among = [f"stages.{stage}.<key>" for stage in drafts.stages]
            drafts.say(place, f"{where!r} does not name a stage's key{choices(where, among)}", "key")
            continue
        _, stage, key = parts
        if words := _fixed(drafts.stages[stage], key):
            drafts.say(place, words, "key")
        else:
            value = Value(data, resolved_file(drafts.name), (*path, stage, key), drafts.document, place)
            found.setdefault(stage, {})[key] = value
    return found


def _fixed(draft: Draft, key: str) -> str | None:
    """Why no axis can set that key of a stage."""
    option = draft.op.options.get(key)
    if key in ("op", "from") or (option and option.kind == "inputs"):
        return f"an axis cannot change {key!r}; make a stage for each, and join them with `stage@*` or a list"
    if key == BUDGET:
        return f"a budget is for all variants together: write it at stages.{draft.name}"
    return None


def touching(drafts: Drafts, draft: Draft, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The axes by which a stage is expanded, in the recipe's order: those that set a key of it, or that touch (`known`)
    a stage which it is made from."""
    inherited = {axis for name in drafts.before(draft, joined=False) for axis in known.get(name, ())}
    return tuple(axis for axis, levels in drafts.axes.items() if axis in inherited or _sets(levels, draft.name))


def _sets(levels: Mapping[str, Settings], stage: str) -> bool:
    return any(stage in settings for settings in levels.values())


def plain(axes: Axes) -> dict[str, Any]:
    """The axes as data: axis: {level: {stage: {key: value}}}."""
    return {
        axis: {
            level: {stage: {key: value.data for key, value in keys.items()} for stage, keys in settings.items()}
            for level, settings in levels.items()
        }
        for axis, levels in axes.items()
    }
