"""A record's chain: the stages that it went through, from where it is back to its source."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from drp.lineage.graph import Node
from drp.lineage.spine import givers
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
        if link.node.op not in OWN:
            return self._changed(link)
        names = [name for name in OWN[link.node.op] if name not in UNTOLD]
        later = self.links[: self.links.index(link)]
        known = all(other.node.op in OWN for other in later)  # another op may have changed anything
        anew = {name for other in later if known for name in OWN[other.node.op]}
        carried = known and not set(names) & anew and set(names) <= self.last.keys()
        row = self.last if carried else self._row(link)
        return {name: row.get(name) for name in names}

    def _changed(self, link: Link) -> Record:
        """What an op that is not drp's gave the record: columns that are new, or have another value than before."""
        place = self.links.index(link)
        before = self.tables.row(self.links[place + 1].node, self.links[place + 1].record) if place + 1 < len(self.links) else {}
        here = self.tables.row(link.node, link.record) or {}
        return {name: value for name, value in here.items() if name != "id" and value != (before or {}).get(name)}

    def _row(self, link: Link) -> Record:
        if link.node.address not in self._rows:
            last = link == self.links[0]
            there = [name for name in self.tables.columns(link.node) if name not in UNTOLD]
            wanted = there if last else [name for name in there if name in OWN[link.node.op]]
            self._rows[link.node.address] = self.tables.row(link.node, link.record, *wanted) or {}
        return self._rows[link.node.address]


def source(tables: Tables, node: Node, record: str) -> Link | None:
    """The record that a stage made a record from; None at a source."""
    inputs = tables.graph.inputs(node)
    if not inputs:
        return None
    if node.op in SAME and len(inputs) == 1:
        return Link(inputs[0], record)
    if node.op in SAMPLES and len(inputs) == 1:
        return Link(inputs[0], record.rpartition("/")[0])
    if found := parents(tables, node, record):
        return found[0]
    other = tables.source(node, record)
    return Link(*other) if other else None


def parents(tables: Tables, node: Node, record: str) -> list[Link]:
    """The records that one was made from where several came together, by its trail: in a mix, first that whose columns it has.

    Ops that are not drp's name them alike: `<input>:<id>`, or the id alone where they have one input.
    """
    if node.op in OWN and node.op != "mix":
        return []
    among = givers(tables.graph, node)
    names = [parent for row in tables.trail(node, record, "parents") for parent in row["parents"]]
    found = []
    for parent in dict.fromkeys(names):
        label, _, name = parent.partition(":")
        other = tables.graph.labelled(node, label, among=among)
        if other is None and len(among) == 1:
            other, name = among[0], parent
        if other:
            found.append(Link(other, name))
    return found
