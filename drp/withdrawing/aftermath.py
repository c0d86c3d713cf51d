"""What a withdrawal leaves to do: what must be made anew, what keeps earlier versions, and the commands for all of it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from drp.lineage.branch import Branch
from drp.lineage.effects import further, listed, plural, reruns
from drp.lineage.follow import Met, follow, sources
from drp.lineage.graph import Node
from drp.lineage.onwards import report
from drp.lineage.subject import Lineage
from drp.lineage.used import beginnings
from drp.withdrawing.withdraw import Edit, Found

SHOWN = 8
"""Commands that people see without `--full`."""
KEEPS = (
    "DVC's cache, its remotes and git's history keep earlier versions: `dvc gc -w` (with -c also in the remote) removes all data "
    "but the workspace's, once it is made anew; what git has, stays"
)


def aftermath(lineage: Lineage, found: Sequence[Found], edits: Sequence[Edit], written: bool) -> Branch:
    """The answer to a withdrawal: the edits, what they make anew, and what stays behind until it is removed."""
    met: dict[str, Met] = {}
    starts: list[str] = []
    for one in found:
        here = follow(lineage, one.id, [*sources(lineage.graph), *one.nodes])
        starts += beginnings(lineage, here)
        for at, each in here.items():
            met[at] = met[at].also(each) if at in met else each
    again = reruns(lineage, met, starts)
    trained = [one.node for one in met.values() if one.learned]
    keys = dict(_completions(lineage, met.values()))
    facts: dict[str, Any] = {
        "withdrawn": [{"asked": one.asked, "id": one.id, "stages": [node.address for node in one.nodes]} for one in found],
        "edits": {edit.path: edit.diff() for edit in edits}, "written": written,
        "stages": [node.address for node in again.sure], "perhaps": [node.address for node in again.perhaps],
        "data_sets": [at for at, one in met.items() if one.kept and not one.node.model],
        "checkpoints": [*(str(node.model) for node in trained), *further(lineage, trained)],
        "reports": [node.report for node in again.sure if node.report], "frozen": again.frozen, "completions": keys,
        "sources": sorted({path for one in found for n in one.nodes if "://" not in (path := n.option("source") or "://")}),
        "shared": sorted(lineage.replies.files) if keys else [], "not_here": [at for at, one in met.items() if one.absent],
    }  # fmt: skip
    reports = [report(lineage, node) for node in again.sure if node.report]
    below = (*_edited(found, edits), *_lists(facts), *reports, *_after(facts))
    return Branch("withdrawn", ", ".join(one.id for one in found), _words(edits, written, again.words()), facts, below)


def _words(edits: Sequence[Edit], written: bool, again: str) -> str:
    count = plural(sum(len(edit.places) for edit in edits), "exclusion")
    which = listed(edit.path for edit in edits)
    first = (
        f"{count} {'written into' if written else 'would be written into'} {which}" if edits else "stands in the recipes already"
    )
    return f"{first}; to make anew: {again}" if again else f"{first}; nothing is to be made anew"


def _edited(found: Iterable[Found], edits: Iterable[Edit]) -> Iterator[Branch]:
    for one in found:
        if one.asked != one.id and not one.id.startswith(one.asked):
            yield Branch("record", one.asked, f"is made of the question {one.id}: that is withdrawn, with all that is made of it")
    for edit in edits:
        yield Branch("recipe", edit.path, ", ".join(".".join(place) for place in edit.places), {"diff": edit.diff()})


def _lists(facts: dict[str, Any]) -> Iterator[Branch]:
    for kind, names in (("data sets", "data_sets"), ("checkpoints", "checkpoints")):
        if facts[names]:
            yield Branch(kind, "", listed(facts[names]))
    if facts["not_here"]:
        words = "whether they have it is not known; `dvc pull` brings them, then withdraw again"
        yield Branch("not here", listed(facts["not_here"]), words)


def _after(facts: dict[str, Any]) -> Iterator[Branch]:
    """The commands, in their order."""
    for recipe in sorted({address.partition("/")[0] for address in facts["frozen"]}):
        yield Branch("run", f"drp compile --thaw {recipe}", "its published model saw it, and is frozen")
    if facts["stages"]:
        yield Branch("run", "dvc repro -R recipes", "makes it all anew; what was asked about other records, the store answers")
    for number, (key, stages) in enumerate(facts["completions"].items()):
        words = f"of {', '.join(stages)}"
        yield Branch("run", f"drp cache forget --yes --key {key[:16]}", words, {"key": key}, aside=number >= SHOWN)
    if (more := len(facts["completions"]) - SHOWN) > 0:
        yield Branch("and", plural(more, "completion"), "--full lists them")
    if facts["completions"]:
        yield Branch("run", "drp cache forget --yes --unused", "at the end: also replies that no record cites, being refused")
    for path in facts["shared"]:
        yield Branch("run", f"drp cache export {path.split('/')[1]} --out {path}", f"then `dvc add {path}`: it may have them too")
    for path in facts["sources"]:
        yield Branch("note", path, "the source itself still has the row; whoever takes it out there changes the rows' numbers")
    yield Branch("note", "", KEEPS)


def _completions(lineage: Lineage, met: Iterable[Met]) -> Iterator[tuple[str, list[str]]]:
    """The stored completions that the records cite, with the stages that did."""
    found: dict[str, list[str]] = {}
    for one in met:
        if one.node.model or one.absent:
            continue
        for key in filter(None, _cited(lineage, one)):
            stages = found.setdefault(key, [])
            stages += [one.node.address] if one.node.address not in stages else []
    store = lineage.replies.store
    for key, stages in found.items():
        if store and store.rows("select 1 from completions where key = ?", (bytes.fromhex(key),)):
            yield key, stages


def _cited(lineage: Lineage, met: Met) -> Iterator[str]:
    node, tables = met.node, lineage.tables
    yield from (row["completion"] for row in met.asked)
    if met.kept and _own(lineage, node):
        rows = (tables.row(node, row["id"], "completion") for row in met.kept)
        yield from (row["completion"] for row in rows if row)
    if tables.present(node, ".trail"):
        yield from (row["completion"] for record in met.kept for row in tables.trail(node, record["id"]))


def _own(lineage: Lineage, node: Node) -> bool:
    """Whether its records have a completion that those of its inputs have not."""
    inputs = [other for other in lineage.graph.inputs(node) if lineage.tables.present(other)]
    columns = lineage.tables.columns
    return "completion" in columns(node) and not any("completion" in columns(other) for other in inputs)
