"""What hangs on the outcomes of stages: models made further, evaluations with their metrics, and what would run again."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drp.lineage.branch import Branch
from drp.lineage.follow import Met
from drp.lineage.graph import COUNTS, Node
from drp.lineage.spine import givers
from drp.lineage.subject import Lineage
from drp.lineage.tables import unglobbed

HEADLINES = ("accuracy", "accuracy_difference", "tokens", "token_ratio")
"""Metrics that stand in the line for people; all of them are in the facts."""


def further(lineage: Lineage, trained: Iterable[Node]) -> dict[str, list[str]]:
    """Models that were made from those of `trained`, or from such ones: their folders, and the folders they were made from."""
    folders = {node.model for node in trained if node.model}
    found: dict[str, list[str]] = {}
    for node in lineage.graph.nodes.values():
        bases = [path for path in node.deps if path in folders]
        if node.model and bases:
            found[node.model] = bases
            folders.add(node.model)
    return found


@dataclass(frozen=True)
class Reruns:
    """Stages that DVC would run, in the order of making: `sure` ones, those of which it is not known (they read what is not here,
    or what may come out otherwise), and the `counts` of recipes."""

    sure: tuple[Node, ...]
    perhaps: tuple[Node, ...]
    counts: tuple[str, ...] = ()

    @property
    def frozen(self) -> list[str]:
        """Those of them that wait until their recipe is thawed."""
        return [node.address for node in (*self.sure, *self.perhaps) if node.frozen]

    def words(self) -> str:
        """For people."""
        names = [*(node.address for node in self.sure), *self.counts]
        told = [f"{plural(len(names), 'stage')}: {listed(names)}"] if names else []
        if self.perhaps:
            told.append(f"perhaps {'also ' if names else ''}{listed(node.address for node in self.perhaps)}")
        return ", ".join([*told, *([f"frozen: {', '.join(self.frozen)}"] if self.frozen else [])])


def reruns(lineage: Lineage, met: Mapping[str, Met], starts: Collection[str]) -> Reruns:
    """The stages that DVC would run if those of `starts` came out without the record.

    A stage whose outcome has nothing of it comes out with the same bytes, and what follows stays; of a model that learned it,
    everything that follows is another. Of what a stage that is not here would make, nothing is known; nor how far a record comes
    that a mix lets in instead (see `frees`).
    """
    changed: set[str] = set()
    whole: set[str] = set()
    perhaps: set[str] = set()
    freed: set[str] = set()
    found: tuple[list[Node], list[Node]] = ([], [])
    above = lineage.graph.above(lineage.graph.nodes[at] for at in starts)
    absent = {node.address for node in above if node.address in met and met[node.address].absent}
    for node in lineage.graph.nodes.values():
        here, reads = met.get(node.address, Met(node)), set(node.deps)
        sure, other = node.address in starts or bool(reads & changed), bool(reads & whole)
        if not sure and node.address not in absent and not reads & (perhaps | freed):
            continue
        found[not sure].append(node)
        if not node.base:
            continue
        records, model = {f"{node.base}.parquet"}, {node.model} if node.model else set[str]()
        outs = records | (model if other or here.learned or here.absent else set())
        if other or (sure and here.has and not here.absent):
            changed |= outs
            whole |= outs if other else outs - records
        elif here.absent:
            perhaps |= outs
        if not other and (reads & freed or (sure and frees(lineage, node, met))):
            freed |= records | model
    recipes = dict.fromkeys(node.recipe for node in found[0] if node.base)  # manifests have the hashes of what was read
    counts = [f"{name}/{COUNTS}" for name in recipes if lineage.graph.counted(name)]
    return Reruns(tuple(found[0]), tuple(found[1]), tuple(counts))


def frees(lineage: Lineage, node: Node, met: Mapping[str, Met]) -> bool:
    """Whether a mix without the record may keep one that it drops now: for want of room, or because of an exam's question."""
    if node.op != "mix":
        return False
    if not lineage.tables.present(node, ".dropped"):
        return True
    file = unglobbed(lineage.tables.file(node, ".dropped"))
    had = node.address in met and met[node.address].kept
    if had and lineage.tables.query(f"{DROPPED} = 'over-limit' limit 1", [file]):
        return True
    questions = _questions(lineage, node, met)
    held = lineage.tables.stream(f"{DROPPED} = 'held-out'", [file]) if questions else ()
    return any(json.loads(row["record"]).get("question") in questions for row in held)


DROPPED = "select record from read_parquet(?) where reason"


def _questions(lineage: Lineage, node: Node, met: Mapping[str, Met]) -> set[str]:
    """What the records ask, in the stages that a mix only compares with."""
    compared = {other.address for other in lineage.graph.inputs(node)} - {other.address for other in givers(lineage.graph, node)}
    rows = (lineage.tables.row(met[at].node, record["id"], "question") for at in compared & met.keys() for record in met[at].kept)
    return {row["question"] for row in rows if row}


def calls(lineage: Lineage, node: Node, folders: Collection[str]) -> list[str]:
    """What a stage calls the models that lie in these folders (evaluate's labels; `` where it has one model)."""
    manifest = lineage.graph.manifest(node)
    hashes = {manifest.get("inputs", {}).get(folder) for folder in folders} - {None}
    named = manifest.get("models", {})
    return [key.partition(".")[2] for key, one in named.items() if (one.get("adapter") or one.get("content")) in hashes]


def metrics(lineage: Lineage, node: Node, labels: Collection[str], suites: Collection[str] = ()) -> Iterator[Branch]:
    """The metrics of an evaluation's models (on some suites, or on all) in the reports that read it."""
    graph = lineage.graph
    for report in graph.readers(f"{node.base}.parquet"):
        if not report.report or lineage.snapshot.find(report.report, report.outs[report.report]) is None:
            continue
        names = [label for label, other in graph.labels(report).items() if other.address == node.address]
        called = {*labels, *(f"{name}:{label}" for name in names for label in labels)}
        groups: dict[str, dict[str, Any]] = {}
        for key, value in graph.metrics(report).items():
            parts = key.split(".")
            if len(parts) > 2 and parts[1] in called and (not suites or parts[0] in suites):
                groups.setdefault(".".join(parts[:2]), {})[key] = value
        if not groups and report.op != "compare":  # a report of the project's own
            values = graph.metrics(report)
            yield Branch("report", report.report, f"{len(values)} metrics", {"stage": report.address, "metrics": values})
        for group, values in groups.items():
            facts = {"report": report.report, "stage": report.address, "metrics": values}
            yield Branch("metrics", f"{report.report}:{group}", headline(values), facts)


def headline(values: Mapping[str, Any]) -> str:
    """The metrics that matter most, for people."""
    told = {key.rpartition(".")[2]: value for key, value in values.items()}
    shown = [f"{name} {told[name]:.4g}" for name in HEADLINES if isinstance(told.get(name), int | float)]
    return ", ".join(shown) or f"{len(values)} metrics"


def plural(count: int, word: str) -> str:
    """`1 stage`, `2 stages`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def counted(nodes: Iterable[Node]) -> str:
    """`13 stages of mini-student, mini-drill`."""
    own = list(nodes)
    return f"{plural(len(own), 'stage')} of {', '.join(dict.fromkeys(node.recipe for node in own))}"


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names one behind the other, the first of them where they are many."""
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")
