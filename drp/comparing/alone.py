"""What only one of two states has: recipes, data sets, reports."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

from drp.comparing.sight import Sight
from drp.lineage.graph import Node
from drp.lineage.spine import Pair, pairs
from drp.lineage.tables import Tables


@dataclass(frozen=True)
class Alone:
    """A thing that the state called `state` has, and the other has not. `records` is None of what holds none, or is not here;
    `twin` is a data set that only the other state has, with the same bytes; `datasets` are a recipe's, none where it never ran.
    """

    state: str
    kind: Literal["recipe", "dataset", "report"]
    name: str
    records: int | None = None
    twin: str | None = None
    datasets: tuple["Alone", ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        found: dict[str, Any] = {"state": self.state, "kind": self.kind, "name": self.name}
        if self.kind == "dataset":
            found |= {"records": self.records, "twin": self.twin}
        return found | ({"datasets": [each.plain() for each in self.datasets]} if self.kind == "recipe" else {})


def alone(before: Sight, after: Sight, paired: Sequence[Pair], stage: str | None, record: str | None) -> list[Alone]:
    """What has no counterpart: recipes, and the data sets of the others; with `stage` those of that name, with `record` those
    that have it, else reports too."""
    taken = {pair.old.address for pair in paired}, {pair.new.address for pair in paired}
    sides = [_Side(sight, gone, stage, record) for sight, gone in zip((before, after), taken, strict=True)]
    found = [*sides[0].told(sides[1]), *sides[1].told(sides[0])]
    if stage is None and record is None:
        found += _reports(before, after)
    return found


class _Side:
    """The data sets of one state that the other has not: by recipe where it has not the recipe either."""

    def __init__(self, sight: Sight, paired: set[str], stage: str | None, record: str | None) -> None:
        self.sight, self.whole = sight, stage is None and record is None
        with closing(Tables(sight.graph)) as tables:
            self.others = {name: self._held(tables, sight.of_other(name, stage), record) for name in sight.others}
            own = [n for n in sight.datasets(stage) if n.address not in paired and n.recipe not in sight.others]
            self.own = self._held(tables, own, record)

    def _held(self, tables: Tables, nodes: Iterable[Node], record: str | None) -> list[tuple[Node, int | None]]:
        here = [(node, tables.present(node)) for node in nodes]
        if record is not None:
            here = [(node, there) for node, there in here if there and tables.under(node, record, "id", limit=1)]
        return [(node, tables.count(node) if there else None) for node, there in here]

    def told(self, other: "_Side") -> Iterator[Alone]:
        """Its data sets, each with its twin in the other state."""
        twins = {_md5(node): node.address for held in (other.own, *other.others.values()) for node, _ in held}
        for recipe, held in self.others.items():
            if held or self.whole:
                yield Alone(self.sight.name, "recipe", recipe, datasets=tuple(self._dataset(*each, twins) for each in held))
        for each in self.own:
            yield self._dataset(*each, twins)

    def _dataset(self, node: Node, records: int | None, twins: dict[str, str]) -> Alone:
        return Alone(self.sight.name, "dataset", node.address, records, twins.get(_md5(node)))


def _md5(node: Node) -> str:
    return node.outs[f"{node.base}.parquet"].md5


def _reports(before: Sight, after: Sight) -> Iterator[Alone]:
    old, new = before.reports(), after.reports()
    found = pairs(old, new)
    for sight, nodes, taken in ((before, old, {p.old.address for p in found}), (after, new, {p.new.address for p in found})):
        yield from (Alone(sight.name, "report", node.address) for node in nodes if node.address not in taken)
