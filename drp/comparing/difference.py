"""Two states of a project, or two recipes or stages of it: data sets record by record, what made them differ, metrics."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from drp.comparing.causes import Causes
from drp.comparing.comparison import FATES, Comparison, State
from drp.errors import ConfigError, DataError, choices
from drp.lineage.graph import Graph, Node
from drp.lineage.snapshot import Snapshot
from drp.lineage.spine import Pair, pairs
from drp.planning.why import Reason
from drp.project import Project
from drp.store.peek import peek


@dataclass(frozen=True)
class Metric:
    """A metric of a reporting stage in both states; None where a state has it not."""

    stage: str
    name: str
    old: Any
    new: Any

    @property
    def difference(self) -> float | None:
        """How much more the new one is; None where that is no number."""
        numbers = [v for v in (self.old, self.new) if isinstance(v, int | float) and not isinstance(v, bool)]
        return numbers[1] - numbers[0] if len(numbers) == 2 else None

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"stage": self.stage, "metric": self.name, "old": self.old, "new": self.new, "difference": self.difference}


@dataclass(frozen=True)
class Difference:
    """`old` and `new` say how the states are called; `causes` are the reasons by stage, of all stages that are involved."""

    old: str
    new: str
    comparisons: tuple[Comparison, ...]
    causes: tuple[tuple[str, tuple[Reason, ...]], ...]
    metrics: tuple[Metric, ...]

    def plain(self, most: int | None = None) -> dict[str, Any]:
        """As JSON, with `most` records of each fate (None: all)."""
        datasets = [{**summary(c), "records": list(records(c, most))} for c in self.comparisons]
        return {**self.head(), "datasets": datasets}

    def head(self) -> dict[str, Any]:
        """As JSON, without the data sets."""
        causes = [{"stage": stage, "reasons": [reason.plain() for reason in reasons]} for stage, reasons in self.causes]
        return {"old": self.old, "new": self.new, "causes": causes, "metrics": [metric.plain() for metric in self.metrics]}

    def close(self) -> None:
        """Let go of the files."""
        for comparison in self.comparisons:
            comparison.close()


def summary(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON, without its records."""
    found: dict[str, Any] = {"old": comparison.old.node.address, "new": comparison.new.node.address, "same": comparison.same}
    if comparison.same:
        return found
    characters = {name: {"old": old, "new": new} for name, (old, new) in comparison.characters.items()}
    return {
        **found, "counts": comparison.counts, "characters": characters, "columns": comparison.alone,
        "changed": comparison.first, "actions": comparison.actions, "cut": comparison.cut,
        "gone": comparison.lost("gone"), "added": comparison.lost("added"),
    }  # fmt: skip


def records(comparison: Comparison, most: int | None = None) -> Iterator[dict[str, Any]]:
    """The records that differ: first those that changed, then those gone, then those added; `most` of each."""
    for fate in FATES:
        yield from comparison.records(fate, most)


def difference(
    project: Project,
    old: str,
    new: str | None = None,
    *,
    recipe: str | None = None,
    stage: str | None = None,
    record: str | None = None,
) -> Difference:
    """Compare two revisions or experiments (`new` None: the workspace), two recipes of the workspace, or two of its stages.

    Compared is what the models are trained on, in every recipe that both have, or in `recipe` alone; or the records of `stage`.
    """
    here = Graph(Snapshot(project))
    stages = new is not None and {old, new} & set(here.nodes)
    if recipe is not None and (stages or {old, new} <= set(here.recipes)):
        raise ConfigError(f"--recipe {recipe}: {old} and {new} say already what is compared; it goes with revisions")
    if new is not None and {old, new} <= set(here.recipes):
        before, after = _Sight(old, here, [old]), _Sight(new, here, [new])
    elif new is not None and stages:
        return _of_stages(project, here, here.stage(old), here.stage(new), record)
    else:
        before, after = _revisions(project, here, old, new, recipe)
    found = [
        Comparison(State(before.name, before.graph, pair.old), State(after.name, after.graph, pair.new), record)
        for pair in _datasets(before, after, stage)
    ]
    if not found:
        raise DataError(_nothing(before, after, stage))
    if record is not None:
        found = _having(found, record)
    whole = stage is None and record is None
    reports = (before.reports(), after.reports()) if whole else ([], [])
    involved = [*reports[0], *(c.old.node for c in found)], [*reports[1], *(c.new.node for c in found)]
    causes = _causes(project, before.graph, after.graph, involved)
    return Difference(before.name, after.name, tuple(found), causes, tuple(_metrics(before, after)) if whole else ())


def _having(comparisons: list[Comparison], record: str) -> list[Comparison]:
    """Those of the data sets that have a record in either state; DataError where none has."""
    differing = [comparison for comparison in comparisons if not comparison.same and comparison.holds_record]
    found = differing or [comparison for comparison in comparisons if comparison.same and comparison.holds_record]
    if not found:
        names = ", ".join(comparison.old.node.address for comparison in comparisons)
        states = f"{comparisons[0].old.name} nor in {comparisons[0].new.name}"
        raise DataError(f"no record {record!r} in {names}, neither in {states}; `drp why {record}` says where it went")
    return found


@dataclass(frozen=True)
class _Sight:
    """A state of the project, and the recipes of it that are looked at."""

    name: str
    graph: Graph
    recipes: list[str]

    def datasets(self, stage: str | None) -> list[Node]:
        """What is compared: the stages of that name, or what the recipes are for."""
        if stage is None:
            return list({n.address: n for recipe in self.recipes for n in self.graph.datasets(recipe)}.values())
        return [n for n in self._involved() if n.base and stage in (n.address, n.slug, n.name)]

    def reports(self) -> list[Node]:
        """The stages that report metrics."""
        return [node for node in self.graph.nodes.values() if node.report and node.recipe in self.recipes]

    def _involved(self) -> list[Node]:
        return self.graph.above(node for node in self.graph.nodes.values() if node.recipe in self.recipes)


def _revisions(project: Project, here: Graph, old: str, new: str | None, recipe: str | None) -> tuple[_Sight, _Sight]:
    try:
        graphs = [Graph(Snapshot(project, old)), here if new is None else Graph(Snapshot(project, new))]
    except ConfigError as error:
        if old in here.recipes or old in here.nodes:
            cure = "name a second one to compare it with, or a revision: `drp diff HEAD --recipe NAME`"
            raise ConfigError(f"{old} is a recipe or stage, not a revision: {cure}") from error
        raise
    known = [name for name in graphs[0].recipes if name in graphs[1].recipes]
    if recipe is not None and recipe not in known:
        raise DataError(f"{recipe!r} is no recipe that both have run{choices(recipe, known)}")
    recipes = known if recipe is None else [recipe]
    before, after = (_Sight(graph.snapshot.name, graph, recipes) for graph in graphs)
    return before, after


def _of_stages(project: Project, here: Graph, old: Node, new: Node, record: str | None) -> Difference:
    for node in (old, new):
        if node.base is None:
            raise DataError(f"{node.address} makes a report, no records: `drp diff REV` compares metrics of two revisions")
    found = Comparison(State(old.address, here, old), State(new.address, here, new), record)
    if record is not None:
        _having([found], record)
    causes = _causes(project, here, here, ([old], [new]))
    return Difference(old.address, new.address, (found,), causes, ())


def _datasets(before: _Sight, after: _Sight, stage: str | None) -> list[Pair]:
    """The data sets that answer each other; where each state has but one, these two."""
    old, new = before.datasets(stage), after.datasets(stage)
    return pairs(old, new) or ([Pair(old[0], new[0])] if len(old) == len(new) == 1 else [])


def _nothing(before: _Sight, after: _Sight, stage: str | None) -> str:
    if stage is not None:
        known = {n.slug for n in before.graph.nodes.values() if n.base and n.recipe in before.recipes}
        return f"no stage {stage!r} with records in both {before.name} and {after.name}{choices(stage, known)}"
    names = [", ".join(n.address for n in sight.datasets(None)) or "none" for sight in (before, after)]
    return f"no data set in common: {before.name} has {names[0]}; {after.name} has {names[1]}"


def _causes(
    project: Project, old: Graph, new: Graph, involved: tuple[Iterable[Node], Iterable[Node]]
) -> tuple[tuple[str, tuple[Reason, ...]], ...]:
    """Of all stages that these are made from, the reasons of those that have any."""
    store = None
    with suppress(DataError):  # a store that is being repaired: texts come from git alone
        store = peek(project.store)
    try:
        causes = Causes(old, new, store)
        found = [(pair.name, tuple(causes.of(pair))) for pair in pairs(old.above(involved[0]), new.above(involved[1]))]
        return tuple((name, reasons) for name, reasons in found if reasons)
    finally:
        if store:
            store.close()


def _metrics(before: _Sight, after: _Sight) -> Iterator[Metric]:
    for pair in pairs(before.reports(), after.reports()):
        old = before.graph.metrics(pair.old)
        new = old if _md5(pair.old) == _md5(pair.new) else after.graph.metrics(pair.new)
        for name in dict.fromkeys([*old, *new]):
            yield Metric(pair.name, name, old.get(name), new.get(name))


def _md5(node: Node) -> str:
    return node.outs[node.report].md5 if node.report else ""
