"""The record that is meant by its id, or by the beginning of it, in two states: by the rule of `drp why`."""

from collections.abc import Sequence
from contextlib import ExitStack, closing

from drp.errors import DataError
from drp.lineage.graph import Graph
from drp.lineage.subject import BEGUN, ENOUGH
from drp.lineage.tables import PARTS, Tables


def begun(graphs: Sequence[Graph], target: str) -> str:
    """The id that `target` is or begins, of a record that a stage of either state kept or dropped; as it stands, where there is
    none; DataError where it begins several. A question's id stands for all its samples, as far as the target goes."""
    with ExitStack() as stack:
        known = [stack.enter_context(closing(Tables(graph))) for graph in dict.fromkeys(graphs)]
        files = [(tables, node, part) for tables in known for node in tables.graph.nodes.values() if node.base
                 for part in PARTS if tables.present(node, part)]  # fmt: skip
        if any(tables.row(node, target, "id", part=part) for tables, node, part in files) or len(target) < ENOUGH:
            return target
        depth = target.count("/") + 1
        found = {"/".join(name.split("/")[:depth]) for tables, node, part in files
                 for name in tables.beginning(node, target, BEGUN, part)}  # fmt: skip
    if len(found) > 1:
        raise DataError(f"{target!r} is the beginning of several ids: say which: {', '.join(sorted(found)[:5])}")
    return found.pop() if found else target
