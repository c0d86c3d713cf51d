"""The audit of recipes: files beside locks, manifests, records, trails, completions, and themselves made anew."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from drp.auditing.anew import Anew
from drp.auditing.current import inputs, manifests
from drp.auditing.finding import Check
from drp.auditing.kept import gather, known
from drp.auditing.ledgers import ledgers
from drp.auditing.named import named
from drp.auditing.spans import spans
from drp.auditing.sums import Entry, Sums, entries
from drp.auditing.totals import totals
from drp.errors import DataError, choices
from drp.lineage.graph import Graph
from drp.lineage.replies import Replies
from drp.lineage.snapshot import Snapshot
from drp.lineage.tables import Tables
from drp.project import Project
from drp.recipe.resolve import resolve_all

ORDER = ("outputs", "locks", "inputs", "manifests", "records", "trails", "ledgers", "completions", "rebuild")
"""The checks as they are told."""


def audit(project: Project, recipes: Iterable[str] = (), rebuild: bool = True) -> list[Check]:
    """Look through these recipes (all that have run, where none is named) with all that they were made from.

    What a published stage was made from is not looked at: it need not be here. Nothing is written but below `.dvc/tmp`.
    """
    graph = Graph(Snapshot(project))
    asked, resolved = list(recipes), resolve_all(project)
    tables, scope = Tables(graph), _scope(graph, asked)
    stages = {f"{name}/{s.ref.slug}": s for name, recipe in resolved.items() for s in recipe.own()}
    sums = Sums(project, graph, scope, stages, asked)
    here = [entry for entry in scope if entry.recipe not in sums.unpulled]
    nodes = [entry.node for entry in here if entry.node]
    replies = Replies(tables)
    project.scratch.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=project.scratch, prefix="verify-") as folder:
            completions, stores = gather(project, sums, replies.files, Path(folder))
            if stores:
                known(completions, sums, tables, nodes, stores)
            elif not completions.findings:
                completions.skip(
                    str(project.store), "there is no completion store here, nor a recipes/<name>/completions.parquet"
                )
            anew = Anew(project, sums, tables, stores, Path(folder))
            anew.look(here if rebuild else ())
            held = [sums.outs(anew.md5s), manifests(sums), totals(sums, tables, nodes), spans(sums, tables, nodes)]
            held += [ledgers(sums, tables, here, recount=rebuild), *([anew.check] if rebuild else [])]
            for check in held if sums.unpulled else ():
                where = [f"recipes/{name}" for name in sums.unpulled]
                brings = sums.snapshot.brings("it", *(f"data/{name}" for name in sums.unpulled))
                check.skip(", ".join(where), f"nothing of it is here; {brings}")
            if away := sum(entry.node is not None for entry in scope) - len(nodes):
                anew.check.left["not pulled"] = away
            found = {check.name: check for check in (*held, named(sums, resolved), inputs(sums), completions)}
            return [found[name] for name in ORDER if name in found]
    finally:
        replies.close()
        tables.close()


def _scope(graph: Graph, recipes: list[str]) -> list[Entry]:
    """The stages of these recipes, and those that they were made from, up to what is published."""
    everything = entries(graph)
    for name in recipes:
        if name not in graph.recipes:
            raise DataError(
                f"recipe {name!r} has never run here: recipes/{name}/dvc.lock is not there{choices(name, graph.recipes)}"
            )
    if not recipes:
        return list(everything.values())
    queue = [entry for entry in everything.values() if entry.recipe in recipes]
    found: dict[str, Entry] = {}
    while queue:
        entry = queue.pop()
        if entry.address not in found:
            found[entry.address] = entry
            if entry.node and not entry.node.frozen:
                queue += [everything[source.address] for source in graph.sources(entry.node)]
    return [entry for address, entry in everything.items() if address in found]
