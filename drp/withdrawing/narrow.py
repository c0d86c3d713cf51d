"""What to tell `drp run` so that it makes stages anew, and no stage that merely happens to be out of date."""

from collections.abc import Sequence

from drp.lineage.graph import COUNTS, Graph, Node
from drp.pipeline.locked import Files
from drp.planning.entries import Entries
from drp.planning.forecast import Forecast
from drp.project import Project


def targets(project: Project, graph: Graph, nodes: Sequence[Node]) -> tuple[list[str], list[str]]:
    """The names for `drp run`, and stages that run with them though nothing is to be made anew in them, being out of date.

    A recipe as a whole where nothing else of it, and of what it is made from, would run; else the last ones of its stages.
    """
    mine = {node.address for node in nodes}
    entries, files = Entries(project), Files(project)
    named: list[str] = []
    also: dict[str, None] = {}
    for recipe in dict.fromkeys(node.recipe for node in nodes):
        fates = Forecast(entries, files, None).of(recipe)
        others = {fate.entry.address for fate in fates if fate.open and fate.entry.name != COUNTS} - mine
        if not others:
            named.append(recipe)
            continue
        own = [node for node in nodes if node.recipe == recipe]
        read = {path for node in own for path in node.deps}
        ends = [node for node in own if not read & node.outs.keys()]
        named += [f"{recipe}:{node.slug}" for node in ends]
        also |= {node.address: None for node in graph.above(ends) if node.address in others}
    return named, list(also)
