"""A question's own text: what is asked with it, found in prompts letter by letter; which other questions have it in them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drp.errors import DataError
from drp.lineage.follow import question
from drp.lineage.graph import Node
from drp.lineage.subject import Lineage, Subject
from drp.lineage.tables import unglobbed
from drp.project import Project
from drp.store.upkeep import LEAST, MENTIONS, mentioning

ID = re.compile(r"[0-9a-f]{4,16}(/\S*)?")
"""What looks like the id of a record, so that nobody takes it for a text."""


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
    """Of a question, by its id; None where no stage that is here has its text."""
    rows = (lineage.tables.row(node, name, "question") for node in _asking(lineage))
    text = next((str(row["question"]).strip() for row in rows if row), "")
    return Wording(name, text, _with(lineage, text, name)) if text else None


def _asking(lineage: Lineage) -> Iterator[Node]:
    """The sources of questions that are here."""
    for node in lineage.graph.nodes.values():
        if not lineage.graph.inputs(node) and lineage.tables.present(node) and "question" in lineage.tables.columns(node):
            yield node


def _with(lineage: Lineage, text: str, but: str = "") -> tuple[str, ...]:
    """The ids of the questions that have a text in them."""
    sql, found = "select id from read_parquet(?) where contains(question, ?) and id <> ?", set[str]()
    for node in _asking(lineage):
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
        raise DataError(f"{name}: its question is not here any more: give the text of it, --mentions 'TEXT'")
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
