"""Two states of a project, or two recipes or stages of it: data sets record by record, what made them differ, metrics."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from drp.comparing.alone import Alone, alone
from drp.comparing.begun import begun
from drp.comparing.causes import Causes
from drp.comparing.comparison import FATES, Comparison, State
from drp.comparing.lying import Lying
from drp.comparing.sight import Sight
from drp.comparing.unrun import NOTHING, Unrun, unrun
from drp.errors import ConfigError, DataError, choices
from drp.lineage.graph import Graph, Node
from drp.lineage.snapshot import Snapshot, git
from drp.lineage.spine import Pair, pairs
from drp.planning.why import Output, Reason
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
    """`old` and `new` say how the states are called; `causes` are the reasons by stage, of all stages that are involved; `files`
    are those of the workspace that are not what its locks name, `alone` is what only one state has; `unrun` is what was edited in
    the workspace, where that is one of them, and has not run."""

    old: str
    new: str
    comparisons: tuple[Comparison, ...]
    causes: tuple[tuple[str, tuple[Reason, ...]], ...]
    metrics: tuple[Metric, ...]
    files: tuple[Output, ...] = ()
    alone: tuple[Alone, ...] = ()
    unrun: Unrun = NOTHING

    @property
    def none(self) -> bool:
        """Whether nothing differs of what was made."""
        unlike = any(metric.old != metric.new for metric in self.metrics) or any(not each.same for each in self.comparisons)
        return not (unlike or self.causes or self.alone)

    def plain(self, most: int | None = None, full: bool = False) -> dict[str, Any]:
        """As JSON, with `most` records of each fate (None: all); `full`: with metrics that are the same."""
        datasets = [{**summary(c), "records": list(records(c, most))} for c in self.comparisons]
        return {**self.head(full), "datasets": datasets}

    def head(self, full: bool = False) -> dict[str, Any]:
        """As JSON, without the data sets."""
        causes = [{"stage": stage, "reasons": [reason.plain() for reason in reasons]} for stage, reasons in self.causes]
        return {
            "old": self.old, "new": self.new, "files": [{"path": each.path, "fate": each.fate} for each in self.files],
            "alone": [each.plain() for each in self.alone], "causes": causes,
            "metrics": [metric.plain() for metric in self.metrics if full or metric.old != metric.new],
            "unrun": self.unrun.plain(),
        }  # fmt: skip

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

    Compared is what the models are trained on, in every recipe that both have, or in `recipe` alone; or the records of `stage`;
    or one `record`, by its id or the beginning of it.
    """
    here = Graph(Snapshot(project))
    stages = new is not None and {old, new} & set(here.nodes)
    if recipe is not None and (stages or {old, new} <= set(here.recipes)):
        raise ConfigError(f"--recipe {recipe}: {old} and {new} say already what is compared; it goes with revisions")
    if new is not None and {old, new} <= set(here.recipes):
        before, after = Sight(old, here, [old]), Sight(new, here, [new])
    elif new is not None and stages:
        record = None if record is None else begun([here], record)
        return _of_stages(project, here, here.stage(old), here.stage(new), record)
    else:
        before, after = _revisions(project, here, old, new, recipe)
    record = None if record is None else begun([before.graph, after.graph], record)
    paired = _datasets(before, after, stage)
    found = [
        Comparison(State(before.name, before.graph, pair.old), State(after.name, after.graph, pair.new), record)
        for pair in paired
    ]
    one = tuple(alone(before, after, paired, stage, record))
    if not found and (before.graph is after.graph or not one):
        raise DataError(_nothing(before, after, stage))
    if record is not None and found:
        found = _having(found, record, bool(one))
    for comparison in found:
        comparison.check()
    whole = stage is None and record is None
    reports = (before.reports(), after.reports()) if whole else ([], [])
    involved = [*reports[0], *(c.old.node for c in found)], [*reports[1], *(c.new.node for c in found)]
    causes = _causes(project, before.graph, after.graph, involved)
    lying = Lying(project)
    metrics = tuple(_metrics(before, after, lying)) if whole else ()
    files = [fault for comparison in found for fault in comparison.faults]
    files += [fault for sight, nodes in zip((before, after), reports, strict=True) for node in nodes if node.report
              and (fault := lying.fault(sight.graph, node.report, node.outs[node.report]))]  # fmt: skip
    here_ = [name for sight in (before, after) if sight.graph is here for name in sight.recipes]
    left = unrun(project, here_) if here_ else NOTHING
    return Difference(before.name, after.name, tuple(found), causes, metrics, tuple(dict.fromkeys(files)), one, left)


def _having(comparisons: list[Comparison], record: str, elsewhere: bool = False) -> list[Comparison]:
    """Those of the data sets that have a record in either state; DataError where none has, and it is not elsewhere either."""
    differing = [comparison for comparison in comparisons if not comparison.same and comparison.holds_record]
    found = differing or [comparison for comparison in comparisons if comparison.same and comparison.holds_record]
    if not found and not elsewhere:
        names = ", ".join(comparison.old.node.address for comparison in comparisons)
        states = f"{comparisons[0].old.name} nor in {comparisons[0].new.name}"
        raise DataError(f"no record {record!r} in {names}, neither in {states}; `drp why {record}` says where it went")
    return found


def _revisions(project: Project, here: Graph, old: str, new: str | None, recipe: str | None) -> tuple[Sight, Sight]:
    graphs = [_graph(project, here, old, new), here if new is None else _graph(project, here, new, old)]
    known = [name for name in graphs[0].recipes if name in graphs[1].recipes]
    if recipe is not None and recipe not in known:
        raise DataError(f"{recipe!r} is no recipe that both have run{choices(recipe, known)}")
    if recipe is not None:
        before, after = (Sight(graph.snapshot.name, graph, [recipe]) for graph in graphs)
    else:
        named = [{*graph.recipes, *_written(graph)} for graph in graphs]
        ran = [{*graph.recipes} - {*known} for graph in graphs]
        others = [tuple(sorted(ran[k] | named[k] - named[1 - k])) for k in (0, 1)]
        before, after = (Sight(g.snapshot.name, g, known, only) for g, only in zip(graphs, others, strict=True))
    return before, after


def _graph(project: Project, here: Graph, name: str, other: str | None) -> Graph:
    """A revision, or an experiment; ConfigError with what else the name may mean."""
    try:
        return Graph(Snapshot(project, name))
    except ConfigError as error:
        known = {*here.recipes, *here.nodes}
        if name in known and (other is None or other not in known):
            wrong = f", and {_unknown(project, here, other)}" if other and not _is_revision(project, other) else ""
            cure = "name a second one to compare it with, or a revision: `drp diff HEAD --recipe NAME`"
            raise ConfigError(f"{name} is a recipe or stage, not a revision{wrong or f': {cure}'}") from error
        raise ConfigError(_unknown(project, here, name)) from error


def _is_revision(project: Project, name: str) -> bool:
    with suppress(ConfigError):
        return Snapshot(project, name).commit is not None
    return False


def _unknown(project: Project, here: Graph, name: str) -> str:
    """That a name is nothing that can be compared, with the choices."""
    if name in _written(here):
        return f"the recipe {name} has never run here: `drp run {name}`"
    listed = git(project.root, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes") or b""
    runs = git(project.root, "for-each-ref", "--format=%(refname)", "refs/exps") or b""
    experiments = [ref.rpartition("/")[2] for ref in runs.decode().split() if not ref.startswith("refs/exps/exec/")]
    stages = here.nodes if "/" in name else ()
    among = {"HEAD", *listed.decode().split(), *experiments, *here.recipes, *stages}
    return f"{name!r} is no revision, experiment, or recipe or stage that has run{choices(name, among)}"


def _written(graph: Graph) -> set[str]:
    """The recipes of a state by name, run or not."""
    paths = map(PurePosixPath, graph.snapshot.files)
    return {p.parts[1] for p in paths if p.name == "recipe.yaml" and len(p.parts) == 3 and p.parts[0] == "recipes"}


def _of_stages(project: Project, here: Graph, old: Node, new: Node, record: str | None) -> Difference:
    for node in (old, new):
        if node.base is None:
            raise DataError(f"{node.address} makes a report, no records: `drp diff REV` compares metrics of two revisions")
    found = Comparison(State(old.address, here, old), State(new.address, here, new), record)
    if record is not None:
        _having([found], record)
    causes = _causes(project, here, here, ([old], [new]))
    left = unrun(project, (old.recipe, new.recipe))
    return Difference(old.address, new.address, (found,), causes, (), tuple(dict.fromkeys(found.faults)), unrun=left)


def _datasets(before: Sight, after: Sight, stage: str | None) -> list[Pair]:
    """The data sets that answer each other; where each state has but one, these two."""
    old, new = before.datasets(stage), after.datasets(stage)
    return pairs(old, new) or ([Pair(old[0], new[0])] if len(old) == len(new) == 1 else [])


def _nothing(before: Sight, after: Sight, stage: str | None) -> str:
    if stage is not None:
        known = {n.slug for n in before.graph.nodes.values() if n.base and n.recipe in before.recipes}
        return f"no stage {stage!r} with records in both {before.name} and {after.name}{choices(stage, known)}"
    old, new = ([n.address for n in sight.datasets(None)] for sight in (before, after))
    cure = f"; two stages are compared by their names: `drp diff {old[0]} {new[0]}`" if old and new else ""
    had = f"{before.name} has {', '.join(old) or 'none'}; {after.name} has {', '.join(new) or 'none'}"
    return f"no data set in common: {had}{cure}"


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


def _metrics(before: Sight, after: Sight, lying: Lying) -> Iterator[Metric]:
    for pair in pairs(before.reports(), after.reports()):
        old = before.graph.metrics(pair.old)
        same = _md5(before, pair.old, lying) == _md5(after, pair.new, lying)
        new = old if same else after.graph.metrics(pair.new)
        for name in dict.fromkeys([*old, *new]):
            yield Metric(pair.name, name, old.get(name), new.get(name))


def _md5(sight: Sight, node: Node, lying: Lying) -> str:
    return lying.md5(sight.graph, node.report, node.outs[node.report]) if node.report else ""
