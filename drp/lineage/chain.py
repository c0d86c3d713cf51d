"""A record's chain: the stages that it went through, from where it is back to its source."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from drp.lineage.graph import Node
from drp.lineage.tables import Tables
from drp.records import Record

SAME = frozenset(("verify", "segment", "edit", "reassemble"))
"""Ops whose records have the ids of their input's: no need to look."""
SAMPLES = frozenset(("generate", "narrate"))
"""Ops that make samples of a record: `<id>/<nnn>`."""
OWN: dict[str, tuple[str, ...]] = {
    "load": ("question", "answer", "solution", "source", "revision", "split", "row", "family"),
    "generate": ("sample", "seed", "response", "thought", "reply", "finish", "tokens", "completion"),
    "narrate": ("sample", "thought", "reply", "finished"),
    "verify": ("prediction", "correct", "verdict"),
    "segment": ("steps",),
    "edit": ("actions", "draft"),
    "reassemble": ("pruned", "sentences", "target_reply", "target", "style", "invented"),
    "mix": (),
}
"""The columns that drp's own ops add; of other ops they are found by comparing files."""


UNTOLD = frozenset(("response", "solution", "draft", "style"))
"""Columns of whole texts that answers do not tell: other columns, or the completion, have them."""


@dataclass(frozen=True)
class Link:
    """A stage, and the record's id there."""

    node: Node
    record: str


class Chain:
    """The links of one record, the last stage first, and its values at each."""

    def __init__(self, tables: Tables, node: Node, record: str) -> None:
        self.tables, self.graph = tables, tables.graph
        self.links = list(self._links(node, record))
        self._rows: dict[str, Record] = {}

    def _links(self, node: Node, record: str) -> Iterator[Link]:
        here: Link | None = Link(node, record)
        while here:
            yield here
            here = source(self.tables, here.node, here.record)

    @cached_property
    def last(self) -> Record:
        """The record's row where the chain begins, with all that earlier stages gave it."""
        return self._row(self.links[0])

    def own(self, link: Link) -> Record:
        """What the stage gave the record. Later stages carry it along, unless one of them gave it anew."""
        names = [name for name in self._columns(link) if name not in UNTOLD]
        later = [c for other in self.links[: self.links.index(link)] for c in self._columns(other)]
        carried = not set(names) & set(later) and set(names) <= self.last.keys()
        row = self.last if carried else self._row(link)
        return {name: row.get(name) for name in names}

    def _row(self, link: Link) -> Record:
        if link.node.address not in self._rows:
            last = link == self.links[0]
            wanted = [c for c in self.tables.columns(link.node) if c not in UNTOLD] if last else self._columns(link)
            self._rows[link.node.address] = self.tables.row(link.node, link.record, *wanted) or {}
        return self._rows[link.node.address]

    def _columns(self, link: Link) -> tuple[str, ...]:
        if link.node.op in OWN:
            return OWN[link.node.op]
        place = self.links.index(link)
        before = self.tables.columns(self.links[place + 1].node) if place + 1 < len(self.links) else []
        return tuple(name for name in self.tables.columns(link.node) if name not in before and name != "id")


def source(tables: Tables, node: Node, record: str) -> Link | None:
    """The record that a stage made a record from; None at a source."""
    inputs = tables.graph.inputs(node)
    if not inputs:
        return None
    if node.op in SAME and len(inputs) == 1:
        return Link(inputs[0], record)
    if node.op in SAMPLES and len(inputs) == 1:
        return Link(inputs[0], record.rpartition("/")[0])
    if node.op == "mix" and (found := parents(tables, node, record)):
        return found[0]
    other = tables.source(node, record)
    return Link(*other) if other else None


def parents(tables: Tables, node: Node, record: str) -> list[Link]:
    """The records that a mix made one from, the one whose columns it has first: all inputs that had it."""
    named = [parent.partition(":") for row in tables.trail(node, record, "parents") for parent in row["parents"]]
    among = joined(tables, node)
    found = [(tables.graph.labelled(node, label, among=among), name) for label, _, name in named]
    return [Link(other, name) for other, name in found if other]


def joined(tables: Tables, node: Node) -> list[Node]:
    """The inputs that a mix joins: not those whose questions it keeps out."""
    inputs, names = tables.graph.inputs(node), node.option("from")
    named = names if isinstance(names, list) else [names]
    found = [n for n in inputs if {n.name, n.slug, n.address} & set(named)]
    return found or inputs
