"""A question's own text: what is asked with it, found in prompts letter by letter; which other questions have it in them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from drp.errors import DataError
from drp.lineage.follow import question
from drp.lineage.graph import Graph, Node
from drp.lineage.past import LOCKS
from drp.lineage.snapshot import Snapshot, git
from drp.lineage.subject import Lineage, Subject
from drp.lineage.tables import Tables, unglobbed
from drp.project import Project
from drp.store.upkeep import LEAST, MENTIONS, mentioning

ID = re.compile(r"[0-9a-f]{4,16}(/\S*)?")
"""What looks like the id of a record, so that nobody takes it for a text."""
COMMITS = 50
"""Commits of lock files in which the text of a question is looked for that is here no more."""


@dataclass(frozen=True)
class Wording:
    """The text of a question (`id` is empty of a text that is no record's), and the ids of `others` whose questions have it in
    them, so that their prompts have it too."""

    id: str
    text: str
    others: tuple[str, ...] = ()

    @property
    def short(self) -> bool:
        """Whether it is too short to be looked for."""
        return len(self.text) < LEAST


def root(lineage: Lineage, subject: Subject) -> str:
    """The id of the question that a record was made of, also of an answer in an exam."""
    name = subject.name
    if subject.node.op == "evaluate" and not subject.part:
        name = (lineage.tables.row(subject.node, name, "item") or {"item": name})["item"]
    return question(lineage, name)


def wording(lineage: Lineage, name: str) -> Wording | None:
    """Of a question, by its id; of one that is here no more, as an earlier commit had it; None where that is not here either."""
    text = _text(lineage.tables, _asking(lineage.tables), name) or _earlier(lineage, name)
    return Wording(name, text, _with(lineage, text, name)) if text else None


def _text(tables: Tables, nodes: Iterable[Node], name: str) -> str:
    rows = (tables.row(node, name, "question") for node in nodes)
    return next((str(row["question"]).strip() for row in rows if row), "")


def _earlier(lineage: Lineage, name: str) -> str:
    """The text of a question as the last commit has it that named data with it which are still in DVC's cache, or in git."""
    told = git(lineage.project.root, "log", "--format=%H", f"-{COMMITS}", lineage.snapshot.commit or "HEAD", "--", LOCKS)
    seen: set[str] = set()
    for commit in (told or b"").decode().split():
        tables = Tables(Graph(Snapshot(lineage.project, commit)))
        try:
            nodes = [node for node in _asking(tables) if node.outs[f"{node.base}.parquet"].md5 not in seen]
            if text := _text(tables, nodes, name):
                return text
            seen |= {node.outs[f"{node.base}.parquet"].md5 for node in nodes}
        finally:
            tables.close()
    return ""


def _asking(tables: Tables) -> Iterator[Node]:
    """The sources of questions that are here."""
    for node in tables.graph.nodes.values():
        if not tables.graph.inputs(node) and tables.present(node) and "question" in tables.columns(node):
            yield node


def _with(lineage: Lineage, text: str, but: str = "") -> tuple[str, ...]:
    """The ids of the questions that have a text in them."""
    sql, found = "select id from read_parquet(?) where contains(question, ?) and id <> ?", set[str]()
    for node in _asking(lineage.tables):
        found |= {row["id"] for row in lineage.tables.query(sql, [unglobbed(lineage.tables.file(node)), text, but])}
    return tuple(sorted(found))


def spoken(project: Project, target: str) -> Wording:
    """What a person gave: a record by its id, or a text; DataError where an id is of no record, or of one whose text is gone."""
    try:
        lineage = Lineage(project)
    except DataError:  # nothing ran here, but the store may be others' too
        if ID.fullmatch(target):
            raise
        return Wording("", target)
    try:
        subject = lineage.subject(target, "record")
        name = root(lineage, subject)
        found = wording(lineage, name)
    except DataError:
        if ID.fullmatch(target):
            raise
        return Wording("", target, _with(lineage, target))
    finally:
        lineage.close()
    if found is None:
        gone = "its question is not here any more, nor in the data of an earlier commit"
        raise DataError(f"{name}: {gone}: give the text of it, --mentions 'TEXT'")
    return found


def asked(lineage: Lineage, text: str) -> list[str]:
    """The keys of the stored completions whose prompts have a text in them."""
    store = lineage.replies.store
    sql = f"select key from completions where {MENTIONS} order by key"
    return [key.hex() for (key,) in store.rows(sql, mentioning(text))] if store else []


def strangers(lineage: Lineage, keys: Sequence[str]) -> list[str]:
    """The stages whose last runs used any of these completions, and that are none of this project's: a store may be shared."""
    store, found = lineage.replies.store, set[str]()
    sql = (
        "select distinct s.recipe || '/' || s.stage from completions c join uses u on u.completion = c.id "
        "join stages s on s.id = u.stage where c.key = ? and s.stage <> ''"
    )
    for key in keys if store else ():
        found |= {name for (name,) in store.rows(sql, (bytes.fromhex(key),))} if store else set()
    return sorted(found - lineage.graph.nodes.keys())
