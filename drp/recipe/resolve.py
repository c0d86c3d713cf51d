"""Resolves a recipe to flat stages: what it extends, its roles, its axes, its inputs; all problems are found at once."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from drp import ops
from drp.errors import ConfigError, Problem, choices
from drp.money.ledger import Limit
from drp.ops import Op, Option
from drp.project import Project
from drp.recipe.binding import check_params
from drp.recipe.limits import BUDGET, Prices
from drp.recipe.read import Document, Path_, read

TOP = {
    "description": "text for people",
    "extends": "another recipe, or a list of them, whose stages this one takes over and may override",
    "models": "roles of this recipe, each bound to a model of params.yaml",
    "stages": "the stages by name",
    "axes": "ablations: axis: {level: {stages.<stage>.<key>: value}}",
    "publish": "stages whose model is kept in git, each with its folder; such a stage is frozen",
    "budget": "the most that its own stages may spend together, in the currency of `prices` in params.yaml; never tracked",
}
NAME = "lower-case letters, digits and hyphens, 40 at most, beginning with a letter"
RESERVED = {"counts"}


@dataclass(frozen=True)
class Value:
    """A value of a recipe, with the file and key path by which DVC tracks it, and the place that a message names."""

    data: Any
    file: str
    path: Path_
    document: Document = field(repr=False, compare=False)
    place: Path_ = ()

    def problem(self, text: str, at: str = "value") -> Problem:
        """A problem with this value."""
        return self.document.problem(self.place, text, at)


@dataclass(frozen=True)
class Draft:
    """A stage before its axes are expanded; `owner` is the recipe whose artifact it is."""

    name: str
    owner: str
    keys: dict[str, Value]
    op: Op


@dataclass(frozen=True, order=True)
class Ref:
    """A stage of the whole project: its recipe, its name, and the levels of the axes that touch it."""

    recipe: str
    name: str
    variant: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The name of the DVC stage: `steps`, or `steps--default` for a variant."""
        return "--".join((self.name, *self.variant))

    @property
    def label(self) -> str:
        """How an op that takes several inputs calls this one."""
        return "--".join(self.variant) or self.name

    def _base(self, top: str) -> str:
        return "/".join([top, self.recipe, *(["--".join(self.variant)] if self.variant else []), self.name])

    @property
    def data(self) -> str:
        """`data/<recipe>/[<variant>/]<stage>`, without the ending."""
        return self._base("data")

    @property
    def model(self) -> str:
        """`models/<recipe>/[<variant>/]<stage>`."""
        return self._base("models")

    @property
    def report(self) -> str:
        """`recipes/<recipe>/reports/[<variant>/]<stage>`, without the ending."""
        return self._base("recipes").replace(f"recipes/{self.recipe}", f"recipes/{self.recipe}/reports", 1)


@dataclass(frozen=True)
class RoleUse:
    """What a model option means here: an entry of params.yaml (perhaps through the recipe's `models`), or a stage's model."""

    role: str
    binding: Value | None = None
    stage: Ref | None = None
    folder: str = ""
    base: "RoleUse | None" = None


@dataclass(frozen=True)
class Stage:
    """A stage as it is compiled and run."""

    ref: Ref
    op: Op
    values: dict[str, Value]
    inputs: tuple[Ref, ...]
    named: dict[str, tuple[Ref, ...]]
    models: dict[str, dict[str, RoleUse]]
    prompts: dict[str, str]
    publish: str | None = None
    limits: tuple[Limit, ...] = ()

    @property
    def model_path(self) -> str:
        """The folder of the model that this stage makes."""
        return self.publish or self.ref.model

    @property
    def data(self) -> str:
        """Where its records lie, without the ending; those of a published stage in git, beside its recipe."""
        return f"recipes/{self.ref.recipe}/published/{self.ref.name}" if self.publish else self.ref.data

    def joins(self) -> dict[str, list[str]]:
        """The stages behind each `stage@*`. DVC does not notice when a stage loses an input, so these are tracked."""
        listed = {"from": self.inputs, **self.named}
        joined = [k for k, refs in listed.items() if k in self.values and "@*" in str(self.values[k].data)]
        return {key: [ref.slug for ref in listed[key]] for key in joined}

    def options(self) -> dict[str, Any]:
        """The plain options as the recipe gives them (defaults are the op's own)."""
        return {k: v.data for k, v in self.values.items() if k not in ("op", "from")}


@dataclass(frozen=True)
class Recipe:
    """A recipe, resolved: every stage that it names or takes over, keyed by `Ref.slug`, its own and its parents'."""

    name: str
    description: str
    stages: dict[str, Stage]
    axes: dict[str, Any]

    def own(self) -> list[Stage]:
        """The stages whose artifacts are this recipe's, inputs before users."""
        return [s for s in self.stages.values() if s.ref.recipe == self.name]


@dataclass
class _Drafts:
    """A recipe half-way: merged with its parents, roles bound, ownership known."""

    name: str
    document: Document
    stages: dict[str, Draft] = field(default_factory=dict)
    bindings: dict[str, Value] = field(default_factory=dict)
    axes: dict[str, dict[str, dict[str, dict[str, Value]]]] = field(default_factory=dict)
    publish: dict[str, str] = field(default_factory=dict)
    parents: dict[str, "_Drafts"] = field(default_factory=dict)


def resolved_file(recipe: str) -> str:
    """The generated file of what a recipe's compiler worked out, tracked key by key: axes, joins, the list of counts."""
    return f"recipes/{recipe}/resolved.yaml"


class Resolver:
    """Resolves recipes of one project and collects their problems."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.problems: list[Problem] = []
        self._drafts: dict[str, _Drafts] = {}
        self._recipes: dict[str, Recipe] = {}
        self._columns: dict[Ref, frozenset[str]] = {}

    @cached_property
    def params(self) -> Document:
        """params.yaml, checked."""
        document, problems = read(self.project.params, "params.yaml")
        self.problems += problems or list(check_params(document))
        return document

    def _known(self) -> dict[str, Any]:
        """The models of params.yaml by name ({} where it is faulty: that is a problem of its own)."""
        found = self.params.data.get("models") if isinstance(self.params.data, dict) else {}
        return found if isinstance(found, dict) else {}

    # -- merging -------------------------------------------------------------------------------------------------------

    def _draft(self, name: str, above: tuple[str, ...] = ()) -> _Drafts:
        if name in self._drafts:
            return self._drafts[name]
        shown = f"recipes/{name}/recipe.yaml"
        document, problems = read(self.project.root / shown, shown)
        self.problems += problems
        drafts = self._drafts[name] = _Drafts(name, document)
        if not isinstance(document.data, dict):
            self._say(document, (), "a recipe is a mapping with `stages`")
            return drafts
        for key in document.data:
            if key not in TOP:
                self._say(document, (str(key),), f"{key!r} is not a key of a recipe{choices(key, TOP)}", "key")
        self._parents(drafts, (*above, name))
        self._bindings(drafts)
        self._own_stages(drafts)
        self._axes(drafts)
        self._publish(drafts)
        self._ownership(drafts)
        return drafts

    def _parents(self, drafts: _Drafts, above: tuple[str, ...]) -> None:
        document = drafts.document
        named = document.data.get("extends", [])
        for parent in named if isinstance(named, list) else [named]:
            if not isinstance(parent, str):
                self._say(document, ("extends",), f"{parent!r} does not name a recipe{choices('', self.project.recipes())}")
            elif parent in above:
                self._say(document, ("extends",), f"{' → '.join([*above, parent])} goes round in a circle")
            elif parent not in self.project.recipes():
                self._say(document, ("extends",), f"{parent!r} is not a recipe{choices(parent, self.project.recipes())}")
            else:
                taken = self._draft(parent, above)
                if taken.axes:
                    self._say(document, ("extends",), f"{parent!r} has axes; extend a recipe without axes and put them here")
                for name in drafts.stages.keys() & taken.stages.keys():
                    if drafts.stages[name].owner != taken.stages[name].owner:
                        self._say(document, ("extends",), f"{parent!r} and another parent both have a stage {name!r}; rename one")
                drafts.parents[parent] = taken
                drafts.stages.update(taken.stages)
                drafts.bindings.update(taken.bindings)

    def _bindings(self, drafts: _Drafts) -> None:
        known = self._known()
        for role, bound in self._mapping(drafts.document, "models").items():
            value = self._value(drafts, ("models", role), bound)
            if not isinstance(bound, str) or bound not in known:
                self.problems.append(value.problem(f"{bound!r} is not a model of params.yaml{choices(bound, known)}"))
            drafts.bindings[role] = value

    def _own_stages(self, drafts: _Drafts) -> None:
        for name, body in self._mapping(drafts.document, "stages").items():
            path = ("stages", name)
            if not _fits(name) or name in RESERVED:
                self._say(drafts.document, path, f"{name!r} cannot name a stage: {NAME}; not {', '.join(RESERVED)}", "key")
                continue
            if not isinstance(body, dict):
                self._say(drafts.document, path, f"{body!r} is not a mapping with `op`")
                continue
            keys = {str(k): self._value(drafts, (*path, str(k)), v) for k, v in body.items()}
            if "op" not in keys and name in drafts.stages:
                if set(keys) == {BUDGET}:
                    words = f"stage {name!r} is recipe {drafts.stages[name].owner!r}'s; write its budget there"
                    self._say(drafts.document, (*path, BUDGET), words, "key")
                    continue
                keys = {**drafts.stages[name].keys, **keys}
            op = self._op(drafts, path, keys)
            if op:
                drafts.stages[name] = Draft(name, drafts.name, keys, op)

    def _op(self, drafts: _Drafts, path: Path_, keys: dict[str, Value]) -> Op | None:
        if "op" not in keys:
            self._say(drafts.document, path, "a stage needs `op`" + choices("", ops.names(self.project.ops_root)), "key")
            return None
        try:
            return ops.get(str(keys["op"].data), self.project.ops_root)
        except ConfigError as error:
            self.problems.append(keys["op"].problem(str(error)))
            return None

    def _axes(self, drafts: _Drafts) -> None:
        for axis, levels in self._mapping(drafts.document, "axes").items():
            drafts.axes[axis] = {}
            if not isinstance(levels, dict) or not levels:
                self._say(drafts.document, ("axes", axis), "an axis is a mapping of levels")
                continue
            for level, settings in levels.items():
                path = ("axes", axis, str(level))
                if not _fits(str(level)) or not _fits(axis):
                    self._say(drafts.document, path, f"an axis and its levels are named by {NAME}", "key")
                drafts.axes[axis][str(level)] = self._level(drafts, path, settings)

    def _level(self, drafts: _Drafts, path: Path_, settings: Any) -> dict[str, dict[str, Value]]:
        found: dict[str, dict[str, Value]] = {}
        if not isinstance(settings, dict | None):
            self._say(drafts.document, path, f"{settings!r} is not a mapping of stages.<stage>.<key> to values")
            return found
        for where, data in (settings or {}).items():
            parts = str(where).split(".")
            if len(parts) != 3 or parts[0] != "stages" or parts[1] not in drafts.stages:
                among = [f"stages.{s}.<key>" for s in drafts.stages]
                self._say(
                    drafts.document, (*path, str(where)), f"{where!r} does not name a stage's key{choices(where, among)}", "key"
                )
                continue
            option = drafts.stages[parts[1]].op.options.get(parts[2])
            if parts[2] in ("op", "from") or (option and option.kind == "inputs"):
                words = f"an axis cannot change {parts[2]!r}; make a stage for each, and join them with `stage@*` or a list"
                self._say(drafts.document, (*path, str(where)), words, "key")
                continue
            if parts[2] == BUDGET:
                words = f"a budget is for all variants together: write it at stages.{parts[1]}"
                self._say(drafts.document, (*path, str(where)), words, "key")
                continue
            tracked = (*path, parts[1], parts[2])
            found.setdefault(parts[1], {})[parts[2]] = Value(
                data, resolved_file(drafts.name), tracked, drafts.document, (*path, str(where))
            )
        return found

    def _publish(self, drafts: _Drafts) -> None:
        for stage, folder in self._mapping(drafts.document, "publish").items():
            if stage not in drafts.stages or not drafts.stages[stage].op.makes_model:
                making = [s for s, d in drafts.stages.items() if d.op.makes_model]
                self._say(drafts.document, ("publish", stage), f"{stage!r} makes no model{choices(stage, making)}", "key")
            elif folder != f"models/{drafts.name}":
                self._say(drafts.document, ("publish", stage), f"{folder!r} is not models/{drafts.name}, the one folder for that")
            else:
                drafts.publish[stage] = folder

    def _ownership(self, drafts: _Drafts) -> None:
        """A stage taken over becomes this recipe's own when a role that it uses is bound anew, an axis sets one of its
        keys, or anything that it is made from is this recipe's own."""
        rebound = self._mapping(drafts.document, "models").keys()
        set_by_axis = {s for levels in drafts.axes.values() for level in levels.values() for s in level}
        changed = True
        while changed:
            changed = False
            for name, draft in drafts.stages.items():
                if draft.owner == drafts.name:
                    continue
                upstream = [drafts.stages[n].owner == drafts.name for n in _stage_names(draft, drafts) if n in drafts.stages]
                if any(upstream) or name in set_by_axis or rebound & set(_roles(draft)):
                    drafts.stages[name] = replace(draft, owner=drafts.name)
                    changed = True

    # -- expanding -----------------------------------------------------------------------------------------------------

    def recipe(self, name: str) -> Recipe:
        """The recipe, resolved as far as its problems allow; look at `problems` afterwards."""
        if name in self._recipes:
            return self._recipes[name]
        drafts = self._draft(name)
        stages: dict[str, Stage] = {}
        axes_of: dict[str, tuple[str, ...]] = {}
        for draft in self._ordered(drafts):
            if draft.owner != name:
                parent = next(p for p in drafts.parents if draft.name in self.recipe(p).stages)
                stages[draft.name] = self.recipe(parent).stages[draft.name]
                axes_of[draft.name] = ()
                continue
            touched = set().union(
                *(axes_of.get(n, ()) for n in _stage_names(draft, drafts, joined=False)),
                [a for a, levels in drafts.axes.items() if any(draft.name in level for level in levels.values())],
            )
            axes = axes_of[draft.name] = tuple(a for a in drafts.axes if a in touched)
            for levels in itertools.product(*(drafts.axes[a] for a in axes)):
                stage = self._expand(drafts, draft, dict(zip(axes, levels, strict=True)), axes_of, stages)
                if stage:
                    stages[stage.ref.slug] = stage
        description = drafts.document.data.get("description", "") if isinstance(drafts.document.data, dict) else ""
        plain = {
            axis: {
                level: {s: {k: v.data for k, v in keys.items()} for s, keys in stages_.items()}
                for level, stages_ in levels.items()
            }
            for axis, levels in drafts.axes.items()
        }
        recipe = self._recipes[name] = Recipe(name, str(description), stages, plain)
        units = {limit.currency for s in recipe.own() for limit in s.limits if limit.stage is None}
        if len(units) > 1:
            self._say(drafts.document, (BUDGET,), f"its stages pay in {', '.join(sorted(units))}: a budget is in one currency")
        return recipe

    def _ordered(self, drafts: _Drafts) -> Iterator[Draft]:
        done: set[str] = set()
        doing: list[str] = []

        def visit(name: str) -> Iterator[Draft]:
            if name in done or name not in drafts.stages:
                return
            draft = drafts.stages[name]
            if name in doing:
                circle = " → ".join([*doing[doing.index(name) :], name])
                self._say(drafts.document, ("stages", name), f"{circle} goes round in a circle", "key")
                return
            doing.append(name)
            for before in _stage_names(draft, drafts):
                yield from visit(before)
            doing.pop()
            if name not in done:
                done.add(name)
                yield draft

        for name in drafts.stages:
            yield from visit(name)

    def _expand(
        self, drafts: _Drafts, draft: Draft, levels: dict[str, str], axes_of: dict[str, tuple[str, ...]], stages: dict[str, Stage]
    ) -> Stage | None:
        values = dict(draft.keys)
        for axis, level in levels.items():
            values.update(drafts.axes[axis][level].get(draft.name, {}))
        ref = Ref(draft.owner, draft.name, tuple(levels.values()))

        def refer(value: Value, name: str) -> list[Ref]:
            bare, joined = name.removesuffix("@*"), name.endswith("@*")
            if bare not in drafts.stages:
                self.problems.append(value.problem(f"{name!r} is not a stage{choices(bare, drafts.stages)}"))
                return []
            found = [s.ref for s in stages.values() if s.ref.name == bare]
            if joined:
                return found
            wanted = tuple(levels[a] for a in axes_of.get(bare, ()))
            return [r for r in found if r.variant == wanted]

        def refer_all(value: Value) -> tuple[Ref, ...]:
            listed = value.data if isinstance(value.data, list) else [value.data]
            return tuple(r for n in listed for r in refer(value, str(n)))

        inputs = self._inputs(drafts, draft, values, refer_all)
        named: dict[str, tuple[Ref, ...]] = {}
        models: dict[str, dict[str, RoleUse]] = {}
        prompts: dict[str, str] = {}
        for key, value in values.items():
            if key in ("op", "from", BUDGET):
                continue
            option = draft.op.options.get(key)
            if option is None:
                self.problems.append(
                    value.problem(f"{key!r} is not a key of op {draft.op.name!r}{choices(key, draft.op.options)}", "key")
                )
            elif option.kind == "inputs":
                named[key] = refer_all(value)
            elif option.kind in ("model", "models"):
                models[key] = self._models(drafts, option, value, refer, stages)
            elif text := ops.fault(value.data, str | None if option.kind in ("prompt", "source") else option.annotation):
                self.problems.append(value.problem(f"{value.data!r} {text}"))
            elif option.required and value.data is None:
                self.problems.append(value.problem(f"op {draft.op.name!r} needs a value here"))
            elif option.kind == "prompt" and value.data is not None:
                prompts[key] = value.data
                self._prompt(option, value)
            elif option.kind == "source":
                self._source(value)
        self._complete(drafts, draft, values)
        self._fit(draft.op, ref, values, {"from": inputs, **named})
        publish = drafts.publish.get(draft.name)
        tracked = {key: value for key, value in values.items() if key != BUDGET}
        return Stage(ref, draft.op, tracked, inputs, named, models, prompts, publish, self._limits(drafts, draft, models))

    def _limits(self, drafts: _Drafts, draft: Draft, models: dict[str, dict[str, RoleUse]]) -> tuple[Limit, ...]:
        """What the stage may spend by its own budget and by its recipe's. Models that a stage made cost nothing."""
        prices = Prices(self.params)
        uses = [] if draft.op.makes_model else [use for named in models.values() for use in named.values()]
        asked = [use.role for use in uses if use.stage is None]
        budgets: list[tuple[Value, str | None, list[str]]] = []
        if own := draft.keys.get(BUDGET):
            budgets.append((own, draft.name, asked))
            if own.data is not None and not asked:
                self.problems.append(own.problem("this stage asks no model that could cost anything: it has no budget", "key"))
        if isinstance(drafts.document.data, dict) and BUDGET in drafts.document.data:
            whole = self._value(drafts, (BUDGET,), drafts.document.data[BUDGET])
            budgets.append((whole, None, [role for role in asked if prices.billed(role)]))
        found: list[Limit] = []
        for value, stage, roles in budgets:
            limit, problems = prices.limit(value, draft.owner, stage, roles)
            self.problems += problems
            if limit and roles:
                found.append(limit)
        return tuple(found)

    def _inputs(self, drafts: _Drafts, draft: Draft, values: dict[str, Value], refer_all: Any) -> tuple[Ref, ...]:
        takes, given = draft.op.takes, values.get("from")
        if given is None:
            if takes != "none":
                self._say(
                    drafts.document,
                    ("stages", draft.name),
                    f"op {draft.op.name!r} needs `from`{choices('', drafts.stages)}",
                    "key",
                )
            return ()
        inputs: tuple[Ref, ...] = refer_all(given)
        if given.data is None or given.data == []:
            self.problems.append(given.problem(f"names no stage{choices('', drafts.stages)}"))
        if takes == "none":
            self.problems.append(given.problem(f"op {draft.op.name!r} takes no input", "key"))
        elif takes == "one" and len(inputs) > 1:
            self.problems.append(
                given.problem(f"op {draft.op.name!r} takes one input, not {len(inputs)}; join them with op 'mix' first")
            )
        return inputs

    def _models(self, drafts: _Drafts, option: Option, value: Value, refer: Any, stages: dict[str, Stage]) -> dict[str, RoleUse]:
        entries = value.data if option.kind == "models" else {"": value.data}
        if value.data is None and not option.required:
            return {}
        if not isinstance(entries, dict) or not all(isinstance(r, str) for r in entries.values()):
            self.problems.append(value.problem(f"{value.data!r} does not name models"))
            return {}
        return {label: self._role(drafts, value, role, refer, stages) for label, role in entries.items()}

    def _role(self, drafts: _Drafts, value: Value, role: str, refer: Any, stages: dict[str, Stage]) -> RoleUse:
        known = self._known()
        making = [n for n, d in drafts.stages.items() if d.op.makes_model]
        if role in drafts.bindings:
            return RoleUse(str(drafts.bindings[role].data), binding=drafts.bindings[role])
        if role in making:
            found: list[Ref] = refer(value, role)
            stage = stages.get(found[0].slug) if found else None
            if stage is None:
                return RoleUse(role)
            base = stage.models.get("model", {}).get("")  # what is trained on top of `model` is an adapter of it
            return RoleUse(role, stage=stage.ref, folder=stage.model_path, base=base)
        if role not in known:
            among = {*known, *drafts.bindings, *making}
            self.problems.append(
                value.problem(f"{role!r} is neither a model of params.yaml nor a stage that makes one{choices(role, among)}")
            )
        return RoleUse(role)

    def _prompt(self, option: Option, value: Value) -> None:
        if value.data not in self.project.prompts():
            self.problems.append(
                value.problem(f"{value.data!r} is not a prompt in prompts/{choices(value.data, self.project.prompts())}")
            )
            return
        prompt = self.project.prompt(value.data)
        try:
            missing = sorted(prompt.variables - set(option.supplies))
        except ConfigError as error:
            self.problems.append(value.problem(str(error)))
            return
        for name in missing:
            self.problems.append(
                value.problem(
                    f"prompts/{value.data}.j2 uses {name!r}, which this op does not supply{choices(name, option.supplies)}"
                )
            )

    def _source(self, value: Value) -> None:
        path = self.project.root / value.data
        if "://" not in value.data and not path.exists() and not path.with_name(path.name + ".dvc").exists():
            self.problems.append(
                value.problem(f"{value.data!r}: no such file (nor `{value.data}.dvc`); a hub source begins with hf://")
            )

    def _fit(self, op: Op, ref: Ref, values: dict[str, Value], inputs: dict[str, tuple[Ref, ...]]) -> None:
        """Every input has the columns that the op reads; `without` is looked at for its questions alone."""
        self._columns[ref] = op.columns(self._columns.get(r, frozenset()) for r in inputs["from"])
        for key, refs in inputs.items():
            for before in refs if key != "without" else ():
                there = self._columns.get(before, frozenset())
                if there and (missing := [c for c in op.needs if c not in there]):
                    self.problems.append(
                        values[key].problem(
                            f"{before.slug!r} has no column {', '.join(map(repr, missing))}, which op {op.name!r} needs "
                            f"(it has {', '.join(sorted(there))})"
                        )
                    )

    def _complete(self, drafts: _Drafts, draft: Draft, values: dict[str, Value]) -> None:
        for option in draft.op.options.values():
            if option.required and option.name not in values:
                self._say(drafts.document, ("stages", draft.name), f"op {draft.op.name!r} needs `{option.name}`", "key")
        if draft.op.rules:
            given = {o.name: o.default for o in draft.op.options.values()} | {k: v.data for k, v in values.items()}
            for key, text in draft.op.rules(given):
                place = values.get(key, values["op"])
                self.problems.append(place.problem(text))

    # -- small ---------------------------------------------------------------------------------------------------------

    def _say(self, document: Document, path: Path_, text: str, at: str = "value") -> None:
        self.problems.append(document.problem(path, text, at))

    def _value(self, drafts: _Drafts, path: Path_, data: Any) -> Value:
        return Value(data, drafts.document.file, path, drafts.document, path)

    def _mapping(self, document: Document, key: str) -> dict[str, Any]:
        data = document.data.get(key, {}) if isinstance(document.data, dict) else {}
        if not isinstance(data, dict):
            self._say(document, (key,), "is not a mapping")
            return {}
        return data


def _fits(name: object) -> bool:
    if not isinstance(name, str):
        return False
    plain = name.replace("-", "")
    return (
        name[:1].isalpha()
        and len(name) <= 40
        and plain.isascii()
        and plain.isalnum()
        and name == name.lower()
        and "--" not in name
    )


def _roles(draft: Draft) -> list[str]:
    found: list[str] = []
    for key, value in draft.keys.items():
        option = draft.op.options.get(key)
        if option and option.kind == "model" and isinstance(value.data, str):
            found.append(value.data)
        elif option and option.kind == "models" and isinstance(value.data, dict):
            found += [r for r in value.data.values() if isinstance(r, str)]
    return found


def _stage_names(draft: Draft, drafts: _Drafts, joined: bool = True) -> list[str]:
    """The stages that a stage refers to: its inputs, and the stages that make its models (without `@*` where not `joined`)."""
    found: list[str] = []
    for key, value in draft.keys.items():
        option = draft.op.options.get(key)
        if key == "from" or (option and option.kind == "inputs"):
            found += [str(n) for n in (value.data if isinstance(value.data, list) else [value.data])]
    roles = [r for r in _roles(draft) if r not in drafts.bindings and r in drafts.stages]
    kept = found if joined else [n for n in found if not n.endswith("@*")]
    return [n.removesuffix("@*") for n in kept] + roles
