"""What a withdrawal leaves to do: what must be made anew, what keeps earlier versions, and the commands for all of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drp.lineage.branch import Branch
from drp.lineage.effects import further, listed, plural, reruns
from drp.lineage.follow import Met, follow, sources
from drp.lineage.graph import Node
from drp.lineage.onwards import report
from drp.lineage.subject import Lineage
from drp.lineage.used import beginnings
from drp.store.exchange import strip
from drp.withdrawing.narrow import targets
from drp.withdrawing.withdraw import Edit, Found
from drp.withdrawing.wording import Wording, asked, strangers, wording

SHOWN = 8
"""Commands that people see without `--full`."""
KEEPS = (
    "DVC's cache, its remotes and git's history keep earlier versions: `dvc gc -w` (with -c also in the remote) removes all data "
    "but the workspace's, once it is made anew; what git has, stays"
)


@dataclass(frozen=True)
class Said:
    """The replies to a question: `mention`, how many prompts of the store have its text in them; `cited`, how many of those its
    records cite; `files`, how many there are in each exported file; `strangers`, the stages that used one and are not ours."""

    wording: Wording
    mention: int
    cited: int
    files: dict[str, int]
    strangers: list[str]

    @property
    def look(self) -> str:
        """Why not to forget them unseen; empty where only the question's own replies are found."""
        found = [f"{plural(others, 'other question')} say the same and more"] if (others := len(self.wording.others)) else []
        found += [f"stages that are not of this project use some ({listed(self.strangers, 3)})"] if self.strangers else []
        return f"look first, then --yes: {', '.join(found)}; " if found else ""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        found = {"mention": self.mention, "cited": self.cited, "files": self.files, "others": list(self.wording.others)}
        return found | {"too_short": self.wording.short, "strangers": self.strangers}


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
    said, told = _said(lineage, found, keys)
    named, also = targets(lineage.project, lineage.graph, again.sure) if again.sure else ([], [])
    facts: dict[str, Any] = {
        "withdrawn": [{"asked": one.asked, "id": one.id, "stages": [node.address for node in one.nodes]} for one in found],
        "edits": {edit.path: edit.diff() for edit in edits}, "written": written,
        "stages": [node.address for node in again.sure], "perhaps": [node.address for node in again.perhaps],
        "run": named, "run_with_them": also,
        "data_sets": [at for at, one in met.items() if one.kept and not one.node.model],
        "checkpoints": [*(str(node.model) for node in trained), *further(lineage, trained)],
        "reports": [node.report for node in again.sure if node.report], "frozen": again.frozen, "completions": keys,
        "mentions": {each.wording.id: each.plain() for each in said},
        "text_unknown": [one.id for one in found if one.id not in {each.wording.id for each in said}],
        "sources": sorted({path for one in found for n in one.nodes if "://" not in (path := n.option("source") or "://")}),
        "shared": sorted(lineage.replies.files) if keys else [], "not_here": [at for at, one in met.items() if one.absent],
    }  # fmt: skip
    cure = lineage.tables.brings("them", [one.node for one in met.values() if one.absent])
    left = {key: stages for key, stages in keys.items() if key not in told}
    commands = [*_thaw(facts), *_forget(said, left, facts["shared"]), *_run(facts)]
    facts["commands"] = [branch.name for branch in commands]
    reports = [replace(report(lineage, node), aside=True) for node in again.sure if node.report]
    below = (*_edited(found, edits), *_touched(facts, again.words(), cure), *reports, *commands, *_notes(facts, said))
    return Branch("withdrawn", listed([one.id for one in found], 3), _words(edits, facts), facts, below)


def _said(lineage: Lineage, found: Sequence[Found], cited: Mapping[str, Any]) -> tuple[list[Said], set[str]]:
    """The replies to each question that its text finds, and the keys that a command forgets by that text."""
    replies: list[Said] = []
    told: set[str] = set()
    for one in found:
        if (own := wording(lineage, one.id)) is None:
            continue
        keys = [] if own.short else asked(lineage, own.text)
        files = {} if own.short else {path: len(strip(file, "", own.text, write=False)) for path, file in _shared(lineage)}
        files = {path: count for path, count in files.items() if count}
        replies.append(Said(own, len(keys), len(cited.keys() & keys), files, strangers(lineage, keys)))
        told |= set() if replies[-1].look else {*keys}
    return replies, told


def _shared(lineage: Lineage) -> Iterator[tuple[str, Path]]:
    yield from sorted(lineage.replies.files.items())


def _words(edits: Sequence[Edit], facts: dict[str, Any]) -> str:
    """The verdict."""
    which = listed(edit.path for edit in edits)
    places = plural(sum(len(edit.places) for edit in edits), "exclusion")
    how = "written into" if facts["written"] else "would be written into"
    words = [f"{places} {how} {which}" if edits else "stands in the recipes already"]
    words.append(f"{plural(len(facts['stages']), 'stage')} to make anew" if facts["stages"] else "nothing is to be made anew")
    if not facts["stages"] and (stored := sum(each["mention"] for each in facts["mentions"].values())):
        words.append(f"{_replies(stored)} to prompts with its text are still stored")
    if facts["checkpoints"]:
        words.append(f"{plural(len(facts['checkpoints']), 'checkpoint')} learned from it")
    return "; ".join(words)


def _edited(found: Iterable[Found], edits: Iterable[Edit]) -> Iterator[Branch]:
    for one in found:
        if one.asked != one.id and not one.id.startswith(one.asked):
            yield Branch("record", one.asked, f"is made of the question {one.id}: that is withdrawn, with all that is made of it")
    for edit in edits:
        yield Branch("recipe", edit.path, ", ".join(".".join(place) for place in edit.places), {"diff": edit.diff()})


def _touched(facts: dict[str, Any], again: str, cure: str) -> Iterator[Branch]:
    if again:
        yield Branch("to make anew", "", again)
    for kind, names in (("data sets", "data_sets"), ("checkpoints", "checkpoints"), ("reports", "reports")):
        if facts[names]:
            yield Branch(kind, "", listed(facts[names]))
    if absent := facts["not_here"]:
        yield Branch("not here", plural(len(absent), "stage"), f"{cure}; withdraw again then says whether they have it")
        yield Branch("not here", "", ", ".join(absent), aside=True)


# -- the commands, in their order ----------------------------------------------------------------------------------------------


def _thaw(facts: dict[str, Any]) -> Iterator[Branch]:
    for recipe in sorted({address.partition("/")[0] for address in facts["frozen"]}):
        yield Branch("run", f"drp compile --thaw {recipe}", "its published model saw it, and is frozen")


def _forget(said: Iterable[Said], left: Mapping[str, Sequence[str]], shared: Sequence[str]) -> Iterator[Branch]:
    """By the text before anything is made anew, for then the text is no more; by key what it does not find, or not alone."""
    for one in said:
        name, look = one.wording.id, one.look
        sure = "" if look else " --yes"
        if one.mention:
            more = one.mention - one.cited
            rest = f", {more} that no record of it cites (refused, of earlier runs, or another project's)" if more else ""
            words = f"{look}{_replies(one.mention)} to prompts with its text: {one.cited} cited{rest}"
            yield Branch("run", f"drp cache forget --mentions {name}{sure}", words)
        for path, count in one.files.items():
            words = f"{look}{_replies(count)} in the shared file; then `dvc add {path}`"
            yield Branch("run", f"drp cache forget --mentions {name} --file {path}{sure}", words)
    for number, (key, stages) in enumerate(left.items()):
        words = f"of {', '.join(stages)}" + (f"; and again with --file {', --file '.join(shared)}" if shared else "")
        yield Branch("run", f"drp cache forget --yes --key {key[:16]}", words, {"key": key}, aside=number >= SHOWN)
    if (more := len(left) - SHOWN) > 0:
        yield Branch("and", plural(more, "completion"), "--full lists them")


def _replies(count: int) -> str:
    return f"{count:,} {'reply' if count == 1 else 'replies'}"


def _run(facts: dict[str, Any]) -> Iterator[Branch]:
    if facts["run"]:
        also = f"; out of date anyway, and so run with it: {listed(facts['run_with_them'], 5)}" if facts["run_with_them"] else ""
        words = f"makes it anew; what was asked about other records, the store answers{also}"
        yield Branch("run", f"drp run {' '.join(facts['run'])}", words)


def _notes(facts: dict[str, Any], said: Iterable[Said]) -> Iterator[Branch]:
    for one in said:
        if one.wording.short:
            words = "is too short to be looked for: replies to it that no record cites stay in the store"
            yield Branch("note", f"{one.wording.text!r}", words)
    for name in facts["text_unknown"]:
        words = "its text is known no more (no commit names data that are here and have it), so replies to it may still be stored"
        yield Branch("note", name, f"{words}: `drp cache forget --mentions 'TEXT'` finds them by the text")
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
