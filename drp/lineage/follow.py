"""Where a record went: the stages that kept it, dropped it, learned from it or asked it, by lookups alone."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from drp.lineage.chain import OWN
from drp.lineage.graph import Graph, Node
from drp.lineage.subject import Lineage
from drp.lineage.tables import unglobbed
from drp.records import Record

MOST = 100_000
"""Records made of one question that are looked at."""
ASKED = ("id", "suite", "model", "item", "run", "correct", "verdict", "counted", "tokens", "completion")
"""Columns of an evaluation's row that are told."""
LEARN = ("sft", "pretrain", "evaluate")
"""The other ops of drp's that join no records under another name."""


@dataclass(frozen=True)
class Met:
    """What one stage did with a record and with those made of it.

    `kept` are rows of its records (`id`; of a ledger all columns), `dropped` have `id reason detail`, `asked` are rows of an
    evaluation of which it is the item; `absent`: the stage's records, or the trail that says their names, are not here, so that
    nothing is known.
    """

    node: Node
    kept: tuple[Record, ...] = ()
    dropped: tuple[Record, ...] = ()
    asked: tuple[Record, ...] = ()
    absent: bool = False

    @property
    def learned(self) -> tuple[Record, ...]:
        """The ledger's rows of those that its model was trained on; of some that are in a ledger no step has seen any."""
        return tuple(row for row in self.kept if self.node.model and row.get("steps_seen") != [])

    @property
    def has(self) -> bool:
        """Whether its outcome has anything of the record, as far as is known."""
        return bool(self.kept or self.asked or self.absent)

    def only(self, name: str) -> "Met":
        """The part of it that is that record, and those made of it."""
        kept = tuple(row for row in self.kept if extends(row["id"], name))
        dropped = tuple(row for row in self.dropped if extends(row["id"], name))
        asked = tuple(row for row in self.asked if extends(row["item"], name) or row["id"] == name)
        return Met(self.node, kept, dropped, asked, self.absent)

    def also(self, other: "Met") -> "Met":
        """This, and what the same stage did with another record."""
        absent = self.absent or other.absent
        return Met(self.node, self.kept + other.kept, self.dropped + other.dropped, self.asked + other.asked, absent)

    def __bool__(self) -> bool:
        return bool(self.kept or self.dropped or self.asked or self.absent)


def extends(name: str, record: str) -> bool:
    """Whether an id is that record's, or of one made of it."""
    return name == record or name.startswith(f"{record}/")


def sources(graph: Graph) -> list[Node]:
    """The stages whose records come from no other stage."""
    return [node for node in graph.nodes.values() if node.base and not graph.inputs(node)]


def question(lineage: Lineage, record: str) -> str:
    """The question that a record was made of: the shortest beginning of its id that a source has; else itself."""
    parts = record.split("/")
    there = [node for node in sources(lineage.graph) if lineage.tables.present(node)]
    for count in range(1, len(parts)):
        name = "/".join(parts[:count])
        if any(lineage.tables.row(node, name, "id") for node in there):
            return name
    return record


def follow(lineage: Lineage, record: str, starts: Iterable[Node]) -> dict[str, Met]:
    """What became of a record, by the addresses of the stages that met it, in the order of making.

    Looked for at `starts`, and from there on only in stages of which an input has it (or is not here).
    """
    graph, found = lineage.graph, dict[str, Met]()
    first = {node.address for node in starts}
    names: dict[str, tuple[str, ...]] = {}  # the record's ids by stage: an op may join it with others under a new one
    for node in graph.nodes.values():
        inputs = [found[other.address] for other in graph.inputs(node) if other.address in found]
        if not node.base or not (node.address in first or any(met.kept or met.absent for met in inputs)):
            continue
        came = dict.fromkeys(name for met in inputs for name in names[met.node.address])
        own = dict.fromkeys([*came, *_joined(lineage, node, inputs)]) or {record: None}
        names[node.address] = tuple(own)
        for name in own:
            if met := _look(lineage, node, name, inputs, exact=node.address in first):
                found[node.address] = found[node.address].also(met) if node.address in found else met
    return found


def _joined(lineage: Lineage, node: Node, inputs: Collection[Met]) -> Iterator[str]:
    """The records that an op which is not drp's made of these and others, by the parents in its trail."""
    tables = lineage.tables
    if node.op in OWN or node.op in LEARN or not tables.present(node, ".trail"):
        return
    labels = {other.address: label for label, other in lineage.graph.labels(node).items()}
    parents = [
        spelled
        for met in inputs
        for row in met.kept
        for spelled in (f"{labels.get(met.node.address, met.node.name)}:{row['id']}", *([row["id"]] if len(labels) == 1 else []))
    ]
    sql = "select distinct record from read_parquet(?) where list_has_any(parents, ?) order by record"
    yield from (row["record"] for row in tables.query(sql, [unglobbed(tables.file(node, ".trail")), parents]) if parents)


def _look(lineage: Lineage, node: Node, record: str, inputs: Collection[Met], exact: bool) -> Met | None:
    tables = lineage.tables
    if not tables.present(node):
        return Met(node, absent=True)
    if node.op == "evaluate" and not exact:
        return Met(node, asked=tuple(_asked(lineage, node, record, {met.node.address for met in inputs})))
    if node.op == "evaluate":
        return Met(node, asked=tuple(tables.under(node, record, *ASKED, limit=MOST)))
    columns = () if node.model else ("id",)
    kept = tuple(tables.under(node, record, *columns, limit=MOST))
    dropped: tuple[Record, ...] = ()
    if _drops(lineage, node):
        dropped = tuple(tables.under(node, record, "id", "reason", "detail", part=".dropped", limit=MOST))
    unknown = not kept and not dropped and node.op not in (*OWN, *LEARN) and not tables.present(node, ".trail")
    return Met(node, kept, dropped, absent=unknown)  # under which name an op of the project's own has it, its trail says


def _drops(lineage: Lineage, node: Node) -> bool:
    """Whether it dropped anything, by its manifest where that is here."""
    if not lineage.tables.present(node, ".dropped"):
        return False
    path = f"{node.base}.manifest.json"
    if lineage.graph.snapshot.find(path, node.outs[path]) is None:
        return True
    return bool(lineage.graph.manifest(node).get("counts", {}).get("dropped", True))


def _asked(lineage: Lineage, node: Node, record: str, suites: Collection[str]) -> Iterator[Record]:
    """The rows `<suite>/<model>/<item>/<run>` of an evaluation whose item the record is."""
    for suite, stage in lineage.graph.labels(node).items():
        for label in labels(lineage, node) if stage.address in suites else ():
            beginning = f"{suite}/{label}/{record}"
            rows = lineage.tables.under(node, beginning, *ASKED, limit=MOST)
            yield from (row for row in rows if extends(row["item"], record))


def labels(lineage: Lineage, node: Node) -> list[str]:
    """What an evaluation calls its models."""
    named = node.option("models") or lineage.graph.manifest(node).get("options", {}).get("models") or {}
    return sorted(named)
