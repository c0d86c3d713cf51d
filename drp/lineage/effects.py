"""What hangs on the outcomes of stages: models made further, evaluations with their metrics, and what would run again."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drp.lineage.branch import Branch
from drp.lineage.follow import Met
from drp.lineage.graph import Node
from drp.lineage.subject import Lineage

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
    """Stages that DVC would run, in the order of making: `sure` ones, and those that read what is not here."""

    sure: tuple[Node, ...]
    perhaps: tuple[Node, ...]

    @property
    def frozen(self) -> list[str]:
        """Those of them that wait until their recipe is thawed."""
        return [node.address for node in (*self.sure, *self.perhaps) if node.frozen]

    def words(self) -> str:
        """For people."""
        names = [node.address for node in self.sure]
        told = [f"{plural(len(names), 'stage')}: {listed(names)}"] if names else []
        if self.perhaps:
            told.append(f"perhaps {'also ' if names else ''}{listed(node.address for node in self.perhaps)}")
        return ", ".join([*told, *([f"frozen: {', '.join(self.frozen)}"] if self.frozen else [])])


def reruns(lineage: Lineage, met: Mapping[str, Met], starts: Collection[str]) -> Reruns:
    """The stages that DVC would run if those of `starts` came out without the record.

    A stage whose outcome has nothing of it comes out with the same bytes, and what follows stays; of a model that learned it,
    everything that follows is another. Of what a stage that is not here would make, nothing is known.
    """
    changed: set[str] = set()
    whole: set[str] = set()
    perhaps: set[str] = set()
    found: tuple[list[Node], list[Node]] = ([], [])
    above = lineage.graph.above(lineage.graph.nodes[at] for at in starts)
    absent = {node.address for node in above if node.address in met and met[node.address].absent}
    for node in lineage.graph.nodes.values():
        here, reads = met.get(node.address, Met(node)), set(node.deps)
        sure, other = node.address in starts or bool(reads & changed), bool(reads & whole)
        if not sure and node.address not in absent and not reads & perhaps:
            continue
        found[not sure].append(node)
        if not node.base:
            continue
        outs = {f"{node.base}.parquet"} | ({node.model} if node.model and (other or here.learned or here.absent) else set())
        if other or (sure and here.has and not here.absent):
            changed |= outs
            whole |= outs if other else outs - {f"{node.base}.parquet"}
        elif here.absent:
            perhaps |= outs
    return Reruns(tuple(found[0]), tuple(found[1]))


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
