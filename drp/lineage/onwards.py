"""What was made from a file, a prompt, a role, a stage or a model, by the graph: data sets with counts, checkpoints, metrics."""

from collections.abc import Collection, Iterator
from typing import Any

from drp.lineage.branch import Branch
from drp.lineage.effects import calls, headline, plural
from drp.lineage.graph import Node
from drp.lineage.subject import Lineage, Subject
from drp.lineage.tables import unglobbed

HOW = {"recipe": "", "role": "asks it; "}
"""What the stages do that have most to do with a subject; others read it."""


def onwards(lineage: Lineage, subject: Subject) -> Branch:
    """The stages that read it, and everything made from them, in the order of making."""
    readers = _readers(lineage, subject)
    made = lineage.graph.below(readers)
    direct = {node.address for node in readers}
    seeds = _seeds(lineage, subject, readers)
    counting = _Counting(lineage, seeds)
    scores = _Scores(lineage, subject, made, direct)
    below = tuple(
        branch for node in made for branch in _made(lineage, node, HOW.get(subject.kind, "reads it; "), direct, counting, scores)
    )
    kinds = [(kind, sum(branch.kind == kind for branch in below)) for kind in ("data set", "checkpoint", "report")]
    found = ", ".join(plural(count, kind) for kind, count in kinds if count)
    what = "has" if subject.kind == "recipe" else "is asked by" if subject.kind == "role" else "is read by"
    words = f"{what} {plural(len(readers), 'stage')}; made from it: {found}" if readers else "nothing was made from it"
    facts = {
        "readers": [node.address for node in readers], "stages": [node.address for node in made],
        "data_sets": [f"{node.base}.parquet" for node in made if node.base and not node.model],
        "checkpoints": [node.model for node in made if node.model], "reports": [node.report for node in made if node.report],
        "frozen": [node.address for node in made if node.frozen],
    }  # fmt: skip
    kind = "model of params.yaml" if subject.kind == "role" else subject.kind
    return Branch(kind, subject.name, words, facts, below)


def _readers(lineage: Lineage, subject: Subject) -> list[Node]:
    graph = lineage.graph
    if subject.kind in ("file", "model"):
        return graph.readers(subject.name)
    if subject.kind == "recipe":
        return [node for node in graph.nodes.values() if node.recipe == subject.name]
    if subject.kind == "role":
        return [node for node in graph.nodes.values() if node in subject.nodes]
    return graph.users(subject.node) if subject.kind == "stage" else []


def _seeds(lineage: Lineage, subject: Subject, readers: list[Node]) -> list[Node]:
    """The stages whose records the subject is: of a file from outside, those that loaded it."""
    if subject.kind == "stage" or (subject.kind == "file" and subject.name.endswith(".parquet") and subject.nodes):
        return [subject.node]
    loaded = [node for node in readers if node.op == "load" and subject.name == node.option("source")]
    return loaded if subject.kind == "file" else []


class _Counting:
    """How many of a subject's records later stages have: by their manifests, or by comparing ids where others were mixed in."""

    def __init__(self, lineage: Lineage, seeds: list[Node]) -> None:
        self.lineage, self.seeds = lineage, seeds
        self.addresses = {node.address for node in seeds}
        self._pure = {node.address: True for node in seeds} if len(seeds) == 1 else {}

    def pure(self, node: Node) -> bool:
        """Whether all of a stage's records come from the one seed."""
        if node.address not in self._pure:
            inputs = self.lineage.graph.inputs(node)
            self._pure[node.address] = len(inputs) == 1 and node.op != "evaluate" and self.pure(inputs[0])
        return self._pure[node.address]

    def kept(self, node: Node, manifest: dict[str, Any]) -> int | None:
        """How many records of a stage are the subject's, or made of them; None where that is not known or not asked."""
        if not self.seeds or not node.base:
            return None
        if self.pure(node):
            count: int | None = manifest.get("counts", {}).get("kept")
            return count
        return self._compared(node)

    def _compared(self, node: Node) -> int | None:
        tables = self.lineage.tables
        if not tables.present(node) or not all(map(tables.present, self.seeds)):
            return None
        files = [unglobbed(tables.file(seed)) for seed in self.seeds]
        found = tables.query("select id from read_parquet(?) limit 1", [files])
        if not found:
            return 0
        depth, column = found[0]["id"].count("/") + 1, "item" if node.op == "evaluate" else "id"
        rows = tables.query(
            f"select count(*) as n from read_parquet(?) where array_to_string(string_split({column}, '/')[1:{depth}], '/') in "
            "(select id from read_parquet(?))",
            [unglobbed(tables.file(node)), files],
        )  # fmt: skip
        return int(rows[0]["n"])


class _Scores:
    """Which metrics of a report depend on a subject: where an evaluation met it only by way of models, those of such models."""

    def __init__(self, lineage: Lineage, subject: Subject, made: list[Node], direct: Collection[str]) -> None:
        self.lineage, self.subject, self.direct = lineage, subject, direct
        self.made = {node.address: node for node in made}
        self.outs = {path for node in made for path in node.outs}
        self.own = set(subject.node.outs) if subject.kind == "stage" else {subject.name}
        self.folders = {node.model for node in (*made, *(subject.nodes if subject.kind == "model" else ())) if node.model}

    def labels(self, report: Node) -> set[str] | None:
        """The labels of models whose metrics depend on it; None where all metrics do."""
        if report.address in self.direct or report.op != "compare":
            return None
        found: set[str] = set()
        for label, node in self.lineage.graph.labels(report).items():
            if node.address in self.made:
                own = self._asked(node)
                if own is None:
                    return None
                found |= {*own, *(f"{label}:{name}" for name in own)}
        return found

    def _asked(self, node: Node) -> list[str] | None:
        manifest = f"{node.base}.manifest.json"
        met = {path for path in node.deps if path in self.outs or path in self.own}
        if node.op != "evaluate" or self._itself(node) or not met <= self.folders or not self.lineage.snapshot.find(
            manifest, node.outs[manifest]
        ):  # fmt: skip
            return None
        return calls(self.lineage, node, met)

    def _itself(self, node: Node) -> bool:
        return node.address in self.direct and self.subject.kind not in ("model", "stage", "file")


def _made(
    lineage: Lineage, node: Node, word: str, readers: Collection[str], counting: _Counting, scores: _Scores
) -> Iterator[Branch]:
    direct = node.address in readers
    how = (word if direct else "") + ("frozen; " if node.frozen else "")
    if node.report:
        yield report(lineage, node, how, direct, scores.labels(node))
        return
    path, manifest = f"{node.base}.manifest.json", {}
    if path in node.outs and lineage.snapshot.find(path, node.outs[path]):
        manifest = lineage.graph.manifest(node)
    counts = manifest.get("counts")
    of_it = counting.kept(node, manifest)
    facts = {"stage": node.address, "op": node.op, "reads_it": direct, "counts": counts, "kept_of_it": of_it}
    words = how + (_counted(counts, of_it) if counts else f"its manifest is not here: {lineage.tables.brings('it', [node])}")
    if node.model:
        md5 = node.outs[node.model].md5
        facts |= {"path": node.model, "md5": md5, "frozen": node.frozen}
        yield Branch("checkpoint", node.model, f"{words}; md5 {md5[:12]}", facts)
    else:
        yield Branch("data set", f"{node.base}.parquet", words, facts)


def _counted(counts: dict[str, Any], of_it: int | None) -> str:
    """`kept 991 of 1,000, 991 of them its own (dropped: 9 wrong)`."""
    read = f" of {counts['read']:,}" if counts.get("read") else ""
    own = f", {of_it:,} of these from it" if of_it is not None and of_it != counts["kept"] else ""
    dropped = ", ".join(f"{number:,} {reason}" for reason, number in counts["dropped"].items())
    return f"kept {counts['kept']:,}{read}{own}" + (f" (dropped: {dropped})" if dropped else "")


def report(lineage: Lineage, node: Node, how: str = "", direct: bool = False, labels: Collection[str] | None = None) -> Branch:
    """A report with its metrics: all, or those of some models."""
    path = str(node.report)
    facts: dict[str, Any] = {"stage": node.address, "op": node.op, "reads_it": direct}
    if lineage.snapshot.find(path, node.outs[path]) is None:
        return Branch("report", path, f"{how}not here", facts)
    every = lineage.graph.metrics(node)
    metrics = {key: value for key, value in every.items() if labels is None or (*key.split(".", 2), "")[1] in labels}
    groups: dict[str, dict[str, Any]] = {}
    for key, value in metrics.items():
        groups.setdefault(".".join(key.split(".")[:2]), {})[key] = value
    below = tuple(Branch("metrics", group, headline(values)) for group, values in groups.items())
    return Branch(
        "report",
        path,
        f"{how}{len(metrics)}{f' of {len(every)}' if len(metrics) < len(every) else ''} metrics",
        {**facts, "metrics": metrics},
        below,
    )
