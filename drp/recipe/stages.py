"""The stages that a recipe comes to: flat and frozen, as they are compiled and run."""

from dataclasses import dataclass, field
from typing import Any

from drp.errors import Problem
from drp.money.ledger import Limit
from drp.ops import RESERVED, Op
from drp.recipe.read import Document, Path_


@dataclass(frozen=True)
class Value:
    """A value of a recipe, with the file and key path by which DVC tracks it, and the place that a message names."""

    data: Any
    file: str
    path: Path_
    document: Document = field(repr=False, compare=False)
    place: Path_

    def problem(self, text: str, at: str = "value") -> Problem:
        """A problem with this value."""
        return self.document.problem(self.place, text, at)


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

    @property
    def data(self) -> str:
        """`data/<recipe>/[<variant>/]<stage>`, without the ending."""
        return self._under("data", self.recipe)

    @property
    def model(self) -> str:
        """`models/<recipe>/[<variant>/]<stage>`."""
        return self._under("models", self.recipe)

    @property
    def report(self) -> str:
        """`recipes/<recipe>/reports/[<variant>/]<stage>`, without the ending."""
        return self._under("recipes", self.recipe, "reports")

    def _under(self, *folders: str) -> str:
        variant = ["--".join(self.variant)] if self.variant else []
        return "/".join([*folders, *variant, self.name])


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
    columns: frozenset[str]
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

    def refs(self) -> tuple[Ref, ...]:
        """Every stage whose records it reads."""
        return (*self.inputs, *(ref for refs in self.named.values() for ref in refs))

    def uses(self) -> list[RoleUse]:
        """Every model that it uses."""
        return [use for named in self.models.values() for use in named.values()]

    def sources(self) -> list[Value]:
        """Where its questions come from: files of the project, and addresses such as `hf://…`."""
        kinds = {name: option.kind for name, option in self.op.options.items()}
        return [v for k, v in self.values.items() if kinds.get(k) == "source" and v.data is not None]

    def joins(self) -> dict[str, list[str]]:
        """The stages behind each `stage@*`. DVC does not notice when a stage loses an input, so these are tracked."""
        listed = {"from": self.inputs, **self.named}
        joined = [k for k, refs in listed.items() if k in self.values and "@*" in str(self.values[k].data)]
        return {key: [ref.slug for ref in listed[key]] for key in joined}

    def options(self) -> dict[str, Any]:
        """The plain options as the recipe gives them (defaults are the op's own)."""
        return {k: v.data for k, v in self.values.items() if k not in RESERVED}


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


def resolved_file(recipe: str) -> str:
    """The generated file of what a recipe's compiler worked out, tracked key by key: axes, joins, the list of counts."""
    return f"recipes/{recipe}/resolved.yaml"
