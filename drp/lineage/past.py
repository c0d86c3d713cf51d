"""Checkpoints of earlier states: which of them, in any commit or experiment of DVC's, had been trained on a record."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from drp.lineage.branch import Branch
from drp.lineage.effects import listed, plural
from drp.lineage.follow import Met
from drp.lineage.graph import Graph, Node
from drp.lineage.snapshot import Snapshot, git
from drp.lineage.subject import Lineage
from drp.lineage.tables import Tables
from drp.pipeline.locked import Lock
from drp.recipe.read import load

LOCKS = ":(glob)recipes/*/dvc.lock"
NOTHING = "0" * 40


@dataclass(frozen=True)
class Earlier:
    """A stage that made a model, as a lock of an earlier state has it, and the commit that brought this lock entry."""

    node: Node
    commit: str
    date: str


def past(lineage: Lineage, record: str) -> Branch:
    """The checkpoints of earlier states that learned a record (or those made of it), newest first.

    Where a ledger is neither in DVC's cache nor in git, nothing can be said, and that is said.
    """
    now = {_key(node) for node in lineage.graph.nodes.values() if node.model and _ledger(node) in node.outs}
    below: list[Branch] = []
    unknown: list[dict[str, Any]] = []
    for earlier in _earlier(lineage):
        node, folder = earlier.node, str(earlier.node.model)
        if _key(node) in now:
            continue
        facts = {"path": folder, "md5": node.outs[folder].md5, "ledger": node.outs[_ledger(node)].md5, "stage": node.address,
                 "commit": earlier.commit, "date": earlier.date}  # fmt: skip
        tables = Tables(Graph(Snapshot(lineage.project, earlier.commit)))
        try:
            met = Met(node, tuple(tables.under(node, record))) if tables.present(node) else None
        finally:
            tables.close()
        if met is None:
            unknown.append(facts)
        elif met.learned:
            rows = [dict(row) for row in met.learned]
            ids = listed(row["id"] for row in rows)
            words = f"md5 {facts['md5'][:12]}, commit {earlier.commit[:10]} ({earlier.date[:10]}): trained on {ids}"
            below.append(Branch("checkpoint", folder, words, {**facts, "records": rows}))
    if unknown:
        which = listed(f"{facts['path']} of {facts['commit'][:10]}" for facts in unknown)
        fetch = "`dvc fetch --all-commits` brings what the remote has"
        cure = fetch if lineage.project.pull else "no DVC remote is configured"
        words = f"{which}: neither in DVC's cache nor in git ({cure})"
        below.append(Branch("ledger not here", "", words, {"checkpoints": unknown}))
    known = [branch.facts for branch in below if branch.kind == "checkpoint"]
    told = f"{plural(len(known), 'checkpoint') if known else 'no other checkpoint'} of any commit or experiment was trained on it"
    told += f"; not known of {len(unknown)}" if unknown else ""
    return Branch("earlier", "", told, {"checkpoints": known, "unknown": unknown}, tuple(below))


def _earlier(lineage: Lineage) -> Iterator[Earlier]:
    """Every checkpoint with its ledger that a lock ever named, newest first; each with the oldest commit that has both."""
    found: dict[tuple[str, str, str], Earlier] = {}
    locks: dict[str, list[Node]] = {}
    for commit, date, recipe, blob in _changes(lineage):
        if blob not in locks:
            locks[blob] = list(_makers(lineage, recipe, blob))
        for node in locks[blob]:
            found[_key(node)] = Earlier(node, commit, date)
    yield from found.values()


def _key(node: Node) -> tuple[str, str, str]:
    """A checkpoint and what it learned: equal weights may have been left by other records."""
    folder = str(node.model)
    return folder, node.outs[folder].md5, node.outs[_ledger(node)].md5


def _ledger(node: Node) -> str:
    return f"{node.base}.parquet"


def _changes(lineage: Lineage) -> Iterator[tuple[str, str, str, str]]:
    """Commit, date, recipe and content of each lock file that a commit changed, newest first."""
    root = lineage.project.root
    listed = (git(root, "for-each-ref", "--format=%(refname)", "refs/exps") or b"").decode().split()
    experiments = [ref for ref in listed if not ref.startswith("refs/exps/exec/")]
    told = git(root, "log", "--raw", "--no-abbrev", "--no-renames", "--full-history", "-m", "--date-order", "--format=%x00%H %cI",
               lineage.snapshot.commit or "HEAD", *experiments, "--", LOCKS)  # fmt: skip
    for entry in (told or b"").decode().split("\0")[1:]:
        head, *lines = entry.splitlines()
        commit, _, date = head.partition(" ")
        for line in filter(None, lines):
            change, _, path = line.partition("\t")
            blob = change.split()[3]
            if blob != NOTHING:
                yield commit, date, path.split("/")[-2], blob


def _makers(lineage: Lineage, recipe: str, blob: str) -> Iterator[Node]:
    """The stages of a lock that made a model; what they ran does not matter."""
    text = (git(lineage.project.root, "cat-file", "blob", blob) or b"").decode()
    for slug, entry in (load(text).get("stages") or {}).items():
        node = Node(recipe, slug, "", False, Lock.of(entry))
        if node.base and node.model and _ledger(node) in node.outs:
            yield node
