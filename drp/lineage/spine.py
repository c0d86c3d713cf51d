"""The stages that a record came through, from its source to the data set that it stands in."""

from collections.abc import Sequence
from dataclasses import dataclass

from drp.lineage.graph import Graph, Node


def spine(graph: Graph, node: Node) -> list[Node]:
    """A stage and all whose records became its records, in the order of making."""
    found: dict[str, Node] = {}
    queue = [node]
    while queue:
        here = queue.pop()
        if here.address not in found:
            found[here.address] = here
            queue += givers(graph, here)
    return [each for each in graph.nodes.values() if each.address in found]


def givers(graph: Graph, node: Node) -> list[Node]:
    """The stages whose records a stage takes up: its inputs but those that it only compares with (mix's `without`)."""
    said = node.option("without") or []
    left_out = {str(name).partition("@")[0] for name in ([said] if isinstance(said, str) else said)}
    return [each for each in graph.inputs(node) if not left_out & {each.name, each.slug, each.address}]


@dataclass(frozen=True)
class Pair:
    """A stage of one state, and the stage that takes its place in another."""

    old: Node
    new: Node

    @property
    def same(self) -> bool:
        """Whether both made the very same records, by their locks; what lies in a workspace may be another by now."""
        return _md5(self.old) == _md5(self.new)

    @property
    def name(self) -> str:
        """How people call it: the slug, both where they differ."""
        return self.old.slug if self.old.slug == self.new.slug else f"{self.old.slug} → {self.new.slug}"


def pairs(old: Sequence[Node], new: Sequence[Node]) -> list[Pair]:
    """Stages that answer each other, in the order of the old ones: by address, else by slug, else by name without axes."""
    found: dict[str, Node] = {}
    for by in ("address", "slug", "name"):
        for node in old:
            taken = {other.address for other in found.values()}
            near = [n for n in new if n.address not in taken and getattr(n, by) == getattr(node, by)]
            if node.address not in found and len(near) == 1:
                found[node.address] = near[0]
    return [Pair(node, found[node.address]) for node in old if node.address in found]


def _md5(node: Node) -> str | None:
    made = node.outs.get(f"{node.base}.parquet")
    return made.md5 if made else None
