"""Drafts a recipe from its file: what it extends is taken over, and its own keys are laid on top."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from drp import ops
from drp.errors import ConfigError, choices
from drp.ops import Op
from drp.project import Project
from drp.recipe.axes import axes_of
from drp.recipe.drafts import Draft, Drafts
from drp.recipe.read import Path_, read
from drp.recipe.stages import Value
from drp.recipe.words import BUDGET, NAME, RESERVED, SECTIONS, TOP, is_name


class Drafting:
    """Drafts the recipes of a project, each once; `models` are those of params.yaml."""

    def __init__(self, project: Project, models: Iterable[str]) -> None:
        self.project, self.models = project, models
        self.done: dict[str, Drafts] = {}

    def draft(self, name: str, above: tuple[str, ...] = ()) -> Drafts:
        """The recipe of that name, extended by those `above`; look at `problems` afterwards."""
        if name in self.done:
            return self.done[name]
        shown = f"recipes/{name}/recipe.yaml"
        drafts = self.done[name] = Drafts(name, *read(self.project.root / shown, shown))
        _shape(drafts)
        for parent in self._parents(drafts, (*above, name)):
            _take_over(drafts, parent)
        _bind(drafts, self.models)
        _own_stages(drafts, self.project.ops_root)
        drafts.axes = axes_of(drafts)
        _publish(drafts)
        _own_what_differs(drafts)
        return drafts

    def _parents(self, drafts: Drafts, above: tuple[str, ...]) -> Iterator[Drafts]:
        """The recipes that it extends, drafted."""
        named, known = drafts.data.get("extends", []), self.project.recipes()
        for parent in named if isinstance(named, list) else [named]:
            if not isinstance(parent, str):
                drafts.say(("extends",), f"{parent!r} does not name a recipe{choices('', known)}")
            elif parent in above:
                drafts.say(("extends",), f"{' → '.join([*above, parent])} goes round in a circle")
            elif parent not in known:
                drafts.say(("extends",), f"{parent!r} is not a recipe{choices(parent, known)}")
            else:
                yield self.draft(parent, above)


def _shape(drafts: Drafts) -> None:
    """The recipe is a mapping of the keys that there are, and its sections are mappings."""
    if not isinstance(drafts.document.data, dict):
        drafts.say((), "a recipe is a mapping with `stages`")
    for key, data in drafts.data.items():
        if key not in TOP:
            drafts.say((str(key),), f"{key!r} is not a key of a recipe{choices(key, TOP)}", "key")
        elif key in SECTIONS and not isinstance(data, dict):
            drafts.say((key,), "is not a mapping")


def _take_over(drafts: Drafts, parent: Drafts) -> None:
    if parent.axes:
        drafts.say(("extends",), f"{parent.name!r} has axes; extend a recipe without axes and put them here")
    for name in drafts.stages.keys() & parent.stages.keys():
        if drafts.stages[name].owner != parent.stages[name].owner:
            drafts.say(("extends",), f"{parent.name!r} and another parent both have a stage {name!r}; rename one")
    drafts.parents.append(parent.name)
    drafts.stages.update(parent.stages)
    drafts.bindings.update(parent.bindings)


def _bind(drafts: Drafts, models: Iterable[str]) -> None:
    for role, bound in drafts.section("models").items():
        value = drafts.bindings[role] = drafts.value(("models", role), bound)
        if not isinstance(bound, str) or bound not in models:
            drafts.problems.append(value.problem(f"{bound!r} is not a model of params.yaml{choices(bound, models)}"))


def _own_stages(drafts: Drafts, ops_root: Path | None) -> None:
    for name, body in drafts.section("stages").items():
        path = ("stages", name)
        if not is_name(name) or name in RESERVED:
            drafts.say(path, f"{name!r} cannot name a stage: {NAME}; not {', '.join(RESERVED)}", "key")
        elif not isinstance(body, dict):
            drafts.say(path, f"{body!r} is not a mapping with `op`")
        else:
            keys = {str(k): drafts.value((*path, str(k)), v) for k, v in body.items()}
            _own_stage(drafts, name, keys, ops_root)


def _own_stage(drafts: Drafts, name: str, keys: dict[str, Value], ops_root: Path | None) -> None:
    """A new stage; or, without `op`, a parent's of that name with other keys."""
    path, theirs = ("stages", name), drafts.stages.get(name)
    if theirs and "op" not in keys:
        if keys.keys() == {BUDGET}:
            drafts.say((*path, BUDGET), f"stage {name!r} is recipe {theirs.owner!r}'s; write its budget there", "key")
            return
        keys = {**theirs.keys, **keys}
    if op := _op(drafts, path, keys, ops_root):
        drafts.stages[name] = Draft(name, drafts.name, keys, op)


def _op(drafts: Drafts, path: Path_, keys: dict[str, Value], ops_root: Path | None) -> Op | None:
    if "op" not in keys:
        drafts.say(path, "a stage needs `op`" + choices("", ops.names(ops_root)), "key")
        return None
    try:
        return ops.get(str(keys["op"].data), ops_root)
    except ConfigError as error:
        drafts.problems.append(keys["op"].problem(str(error)))
        return None


def _publish(drafts: Drafts) -> None:
    for stage, folder in drafts.section("publish").items():
        if stage not in drafts.makers():
            drafts.say(("publish", stage), f"{stage!r} makes no model{choices(stage, drafts.makers())}", "key")
        elif folder != f"models/{drafts.name}":
            drafts.say(("publish", stage), f"{folder!r} is not models/{drafts.name}, the one folder for that")
        else:
            drafts.publish[stage] = folder


def _own_what_differs(drafts: Drafts) -> None:
    """A stage taken over becomes this recipe's own when a role that it uses is bound anew, an axis sets one of its
    keys, or anything that it is made from is this recipe's own."""
    rebound = drafts.section("models").keys()
    set_by_axis = {stage for levels in drafts.axes.values() for settings in levels.values() for stage in settings}

    def differs(draft: Draft) -> bool:
        before = [drafts.stages[n].owner for n in drafts.before(draft) if n in drafts.stages]
        return drafts.name in before or draft.name in set_by_axis or not rebound.isdisjoint(draft.roles())

    while found := [d for d in drafts.stages.values() if d.owner != drafts.name and differs(d)]:
        drafts.stages.update({draft.name: replace(draft, owner=drafts.name) for draft in found})
