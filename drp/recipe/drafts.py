"""Drafts: a recipe's stages as written, over those that it takes over, before its axes are expanded."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from drp.errors import Problem
from drp.ops import Op
from drp.recipe.read import Document, Path_
from drp.recipe.stages import Value

Settings = dict[str, dict[str, Value]]
"""What a level sets: stage: {key: value}."""
Axes = dict[str, dict[str, Settings]]
"""axis: {level: settings}."""


@dataclass(frozen=True)
class Draft:
    """A stage before its axes are expanded; `owner` is the recipe whose artifact it is."""

    name: str
    owner: str
    keys: dict[str, Value]
    op: Op

    def inputs(self) -> list[str]:
        """The stages that its keys name as inputs, as written: `stage` or `stage@*`."""
        named = [value for key, value in self.keys.items() if key == "from" or self._kind(key) == "inputs"]
        return [name for value in named for name in listed(value)]

    def roles(self) -> list[str]:
        """The models that its keys name."""
        found: list[Any] = []
        for key, value in self.keys.items():
            if self._kind(key) == "model":
                found.append(value.data)
            elif self._kind(key) == "models" and isinstance(value.data, dict):
                found += value.data.values()
        return [role for role in found if isinstance(role, str)]

    def _kind(self, key: str) -> str | None:
        option = self.op.options.get(key)
        return option.kind if option else None


@dataclass
class Drafts:
    """A recipe half-way: merged with its parents, its roles bound, and the problems found so far."""

    name: str
    document: Document
    problems: list[Problem]
    stages: dict[str, Draft] = field(default_factory=dict)
    bindings: dict[str, Value] = field(default_factory=dict)
    axes: Axes = field(default_factory=dict)
    publish: dict[str, str] = field(default_factory=dict)
    parents: list[str] = field(default_factory=list)

    @property
    def data(self) -> dict[str, Any]:
        """The recipe as written; {} where it is no mapping, which is a problem of its own."""
        return self.document.data if isinstance(self.document.data, dict) else {}

    def section(self, key: str) -> dict[str, Any]:
        """A key of the recipe that holds a mapping; {} where it holds none, which is a problem of its own."""
        found = self.data.get(key)
        return found if isinstance(found, dict) else {}

    def value(self, path: Path_, data: Any) -> Value:
        """A value that stands in the recipe's own file."""
        return Value(data, self.document.file, path, self.document, path)

    def say(self, path: Path_, text: str, at: str = "value") -> None:
        """Note a problem."""
        self.problems.append(self.document.problem(path, text, at))

    def makers(self) -> list[str]:
        """The stages that make a model."""
        return [name for name, draft in self.stages.items() if draft.op.makes_model]

    def before(self, draft: Draft, joined: bool = True) -> list[str]:
        """What a stage is made from: its inputs, and the stages that make its models (without `@*` where not `joined`)."""
        inputs = [n for n in draft.inputs() if joined or not n.endswith("@*")]
        makers = [r for r in draft.roles() if r not in self.bindings and r in self.stages]
        return [n.removesuffix("@*") for n in inputs] + makers

    def ordered(self) -> Iterator[Draft]:
        """The stages, inputs before users; a circle is a problem."""
        done: set[str] = set()
        doing: list[str] = []

        def visit(name: str) -> Iterator[Draft]:
            if name in done or name not in self.stages:
                return
            if name in doing:
                circle = " → ".join([*doing[doing.index(name) :], name])
                self.say(("stages", name), f"{circle} goes round in a circle", "key")
                return
            doing.append(name)
            for before in self.before(self.stages[name]):
                yield from visit(before)
            doing.pop()
            done.add(name)
            yield self.stages[name]

        for name in self.stages:
            yield from visit(name)


def listed(value: Value) -> list[str]:
    """The names that a value gives: one, or a list of them."""
    return [str(name) for name in (value.data if isinstance(value.data, list) else [value.data])]
