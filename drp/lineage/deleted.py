"""What was cut: steps by what was decided about them, steps that vanished without a decision, and records that were dropped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from drp.errors import ConfigError, DataError, choices
from drp.lineage.chain import Chain
from drp.lineage.graph import Graph, Node
from drp.lineage.spine import givers, spine
from drp.lineage.subject import Lineage
from drp.lineage.tables import Part, Tables, unglobbed
from drp.records import Record

By = Literal["skill", "reason", "action"]
VANISHED = "vanished"
"""In the place of an action: steps that edit let live, of which no sentence of the pruned thought comes."""
MANY = 30
"""More reasons than this are not listed in an error."""
DECIDED = ("thought", "steps", "actions")
"""The columns that say what became of each step."""


@dataclass(frozen=True)
class Wish:
    """Which steps are asked for: of a skill, with a reason, with an action (or `vanished`)."""

    skill: str | None = None
    reason: str | None = None
    action: str | None = None

    @property
    def any(self) -> bool:
        """Whether anything is wished for."""
        return bool(self.skill or self.reason or self.action)


class Cuts:
    """What was cut from the records of a stage, asked of its file."""

    def __init__(self, lineage: Lineage, node: Node) -> None:
        self.lineage, self.tables, self.node = lineage, lineage.tables, node
        names = self.tables.columns(node)
        self.decided, self.reassembled = set(DECIDED) <= set(names), "sentences" in names

    def files(self) -> list[str]:
        """The paths of the files that it is asked of, found and so noted as read."""
        parts: list[tuple[Node, Part]] = [(self.node, "")]
        parts += [(node, ".dropped") for node in spine(self.lineage.graph, self.node)]
        parts += [(node, ".trail") for node in deciding(self.lineage.graph, self.node)]
        here = [(node, part) for node, part in parts if self.tables.present(node, part) and self.tables.file(node, part)]
        return [f"{node.base}{part}.parquet" for node, part in here]

    # -- totals ------------------------------------------------------------------------------------------------------------

    def plain(self, by: By | None = None) -> dict[str, Any]:
        """As JSON."""
        found: dict[str, Any] = {"stage": self.node.address, "records": self.tables.count(self.node)}
        if self.decided:
            found |= {"characters": self.characters(), "steps": self.table(by) if by else self.table("skill", "action"),
                      "reasons": self.reasons()}  # fmt: skip
        return {**found, "dropped": self.dropped(), "absent": self.absent}

    def characters(self) -> dict[str, int]:
        """Of the thoughts that were decided about: in all, and by action. Besides: of the `text` written in their place, of the
        pruned thoughts, and of the steps that vanished (which stand among the actions too)."""
        file = self.tables.file(self.node)
        pruned = "coalesce(sum(length(pruned)), 0)::bigint" if self.reassembled else "null"
        (whole,) = self.tables.query(
            f"select coalesce(sum(length(thought)), 0)::bigint as thought, {pruned} as pruned "
            "from read_parquet(?) where actions is not null", [unglobbed(file)],
        )  # fmt: skip
        rows = {row["action"]: row for row in self.table("action")}
        found = {action: rows[action]["characters"] if action in rows else 0 for action in ("keep", "delete", "rewrite", "merge")}
        found |= {action: row["characters"] for action, row in rows.items()}
        written = sum(row["text"] for row in rows.values())
        return {**whole, **found, "text": written, VANISHED: sum(row["vanished_characters"] for row in rows.values())}

    def table(self, *by: str) -> list[dict[str, Any]]:
        """Steps by skill, reason or action: how many, their characters, their share of all characters, the characters of the text
        written for them, and how many vanished."""
        keys = ", ".join(by)
        rows = self._query(f"""select {keys}, sum(steps)::bigint as steps, sum(characters)::bigint as characters,
            sum(text)::bigint as text, coalesce(sum(steps) filter (vanished), 0)::bigint as vanished,
            coalesce(sum(characters) filter (vanished), 0)::bigint as vanished_characters
            from {self._counted} group by {keys} order by characters desc, {keys}""")
        whole = sum(row["characters"] for row in rows)
        return [{**row, "share": row["characters"] / whole if whole else 0.0} for row in rows]

    def reasons(self, most: int | None = None) -> list[dict[str, Any]]:
        """The reasons of what was cut, and of what vanished, the most frequent first, each with its first step."""
        limit = f"limit {most}" if most is not None else ""
        rows = self._query(f"""select {_FATE} as action, reason, sum(steps)::bigint as steps,
            sum(characters)::bigint as characters, min(example) as example from {self._counted} where action <> 'keep' or vanished
            group by all order by steps desc, characters desc, action, reason {limit}""")
        return [{**row, "example": {**row["example"], "text": self._text(**row["example"])}} for row in rows]

    def dropped(self) -> list[dict[str, Any]]:
        """Records that went no further, by stage and reason, from the source down."""
        found = []
        for node in spine(self.lineage.graph, self.node):
            if node.address in self.absent:
                continue
            rows = self.tables.query(
                "select reason, count(*) as records, min(id) as example from read_parquet(?) group by reason order by 2 desc, 1",
                [unglobbed(self.tables.file(node, ".dropped"))],
            )
            found += [{"stage": node.address, **row} for row in rows]
        return found

    @property
    def absent(self) -> list[str]:
        """The stages above whose dropped records cannot be read here."""
        above = spine(self.lineage.graph, self.node)
        return [node.address for node in above if not self.tables.present(node, ".dropped")]

    # -- steps -------------------------------------------------------------------------------------------------------------

    def count(self, wish: Wish) -> int:
        """How many steps are so."""
        where, values = _where(wish)
        return int(self._query(f"select count(*) as n from {self._steps} where {where}", values)[0]["n"])

    def total(self, wish: Wish) -> int:
        """How many steps there are of the wished skill; of all, where none is wished."""
        where, values = ("skill = ?", [wish.skill]) if wish.skill else ("true", [])
        return int(self._query(f"select count(*) as n from {self._steps} where {where}", values)[0]["n"])

    def steps(self, wish: Wish, most: int | None = None) -> Iterator[dict[str, Any]]:
        """The steps that are so, by record and step, each with the completion that decided."""
        where, values = _where(wish)
        limit = f"limit {most}" if most is not None else ""
        sql = f"""select id, step, skill, {_FATE} as action, action as decided, reason, source as text, text as new, "into"
            from {self._steps} where {where} order by id, step {limit}"""
        for row in self._joined(sql, values):
            yield {**row, "text": row["text"].strip()}

    def _joined(self, sql: str, values: Sequence[Any]) -> Iterator[Record]:
        trails = [
            self.tables.file(n, ".trail") for n in deciding(self.lineage.graph, self.node) if self.tables.present(n, ".trail")
        ]
        if not trails:
            yield from ({**row, "completion": None} for row in self.tables.stream(sql, values))
            return
        files = ", ".join(map(_quoted, trails))
        yield from self.tables.stream(f"""with s as ({sql}), t as (
              select record, step, action, min(completion) as completion from read_parquet([{files}])
              where record in (select id from s) group by all)
            select s.*, t.completion from s left join t on t.record = s.id and t.step = s.step and t.action = s.decided
            order by s.id, s.step""", values)  # fmt: skip

    @cached_property
    def _counted(self) -> str:
        """A table that every count is taken from: the file is read once."""
        name = f'"steps of {self.node.address}"'
        self._query(f"""create or replace temp table {name} as
            select skill, action, reason, vanished, count(*) as steps, sum(last - first)::bigint as characters,
              coalesce(sum(length(text)), 0)::bigint as text, min({{'id': id, 'step': step}}) as example
            from {self._steps} group by all""")
        return name

    @property
    def _steps(self) -> str:
        """SQL: a row a step."""
        file = _quoted(self.tables.file(self.node))
        cited = "flatten([x.steps for x in sentences])" if self.reassembled else "null::bigint[]"
        return f"""(select id, a.step as step, s.skill as skill, a.action as action, coalesce(a.reason, '') as reason,
              s.start as first, s."end" as last, a."into" as "into", a.text as text,
              a.action <> 'delete' and not coalesce(list_contains(cited, a.step), cited is null) as vanished,
              substring(thought, s.start + 1, s."end" - s.start) as source
            from (select id, thought, unnest(steps) as s, unnest(actions) as a, {cited} as cited
                  from read_parquet({file}) where actions is not null))"""

    def _query(self, sql: str, values: Sequence[Any] = ()) -> list[Record]:
        return self.tables.query(sql, values)

    def _text(self, id: str, step: int) -> str:
        row = self.tables.row(self.node, id, "thought", "steps") or {}
        span = row["steps"][step]
        return str(row["thought"][span["start"] : span["end"]]).strip()


def _quoted(path: Path) -> str:
    """A file's path in SQL."""
    return "'" + unglobbed(path).replace("'", "''") + "'"


_FATE = f"case when vanished then '{VANISHED}' else action end"


def _where(wish: Wish) -> tuple[str, list[str]]:
    """What is cut, as wished; what is kept only where it is asked for."""
    found = {"skill = ?": wish.skill, "reason = ?": wish.reason, f"{_FATE} = ?": wish.action}
    parts = [part for part, value in found.items() if value is not None]
    return " and ".join(parts if wish.action else [*parts, f"{_FATE} <> 'keep'"]), [v for v in found.values() if v is not None]


def deciding(graph: Graph, node: Node) -> list[Node]:
    """The stages of op edit that decided about the records of a stage: the nearest ones."""
    if node.op == "edit":
        return [node]
    return list({found.address: found for giver in givers(graph, node) for found in deciding(graph, giver)}.values())


def refuse_unknown(cuts: Sequence[Cuts], wish: Wish) -> None:
    """ConfigError, with the choices, where no step of any of these has the skill or the reason that is wished for."""
    for key, value in (("skill", wish.skill), ("reason", wish.reason)):
        known = {row[key] for each in cuts if each.decided for row in each.table(key)} - {""} if value else set()
        if value and value not in known:
            of = ", ".join(each.node.address for each in cuts)
            listed = choices(value, known) if len(known) <= MANY else f" (`--by {key}` lists all {len(known)})"
            raise ConfigError(f"no step of {of} has the {key} {value!r}{listed}")


# -- one record ----------------------------------------------------------------------------------------------------------------


def thoughts(lineage: Lineage, record: str, within: str | None = None) -> list[dict[str, Any]]:
    """A record, or those whose ids extend it, in the stage `within`, or where it was meant for: what became of each step of the
    thought, in order; [] where nothing decided about it."""
    for node in lineage.within(within):
        if node.base and lineage.tables.present(node) and set(DECIDED) <= set(lineage.tables.columns(node)):
            rows = lineage.tables.under(node, record)
            if found := [_thought(lineage.tables, node, row) for row in rows if row["actions"] is not None]:
                return found
    return []


def only(found: list[dict[str, Any]], wish: Wish, most: int | None = None) -> list[dict[str, Any]]:
    """The same thoughts with those of their steps that are as wished (where nothing is wished, with all), each with the first
    `most`; ConfigError, with the choices, where no step of any has the skill or the reason."""
    steps = [step for each in found for step in each["steps"]]
    for key, value in (("skill", wish.skill), ("reason", wish.reason)):
        if value and steps and value not in (known := {step[key] for step in steps} - {""}):
            raise ConfigError(
                f"no step of {', '.join(each['id'] for each in found)} has the {key} {value!r}{choices(value, known)}"
            )
    return [{**each, "steps": [step for step in each["steps"] if not wish.any or _so(step, wish)][:most]} for each in found]


def _so(step: dict[str, Any], wish: Wish) -> bool:
    """What is cut, as wished; what is kept only where it is asked for."""
    action = step["action"] == wish.action if wish.action else step["action"] != "keep"
    return action and wish.skill in (None, step["skill"]) and wish.reason in (None, step["reason"])


def _thought(tables: Tables, node: Node, row: Record) -> dict[str, Any]:
    sentences = row.get("sentences")
    cited = None if sentences is None else {step for sentence in sentences for step in sentence["steps"]}
    decided = _completions(tables, node, row["id"])
    steps = []
    for action in row["actions"]:
        step = row["steps"][action["step"]]
        vanished = cited is not None and action["action"] != "delete" and action["step"] not in cited
        steps.append({
            "step": action["step"], "skill": step["skill"], "action": VANISHED if vanished else action["action"],
            "decided": action["action"], "reason": action["reason"], "text": row["thought"][step["start"] : step["end"]],
            "new": action["text"], "into": action["into"], "completion": decided.get(action["step"]),
        })  # fmt: skip
    return {"id": row["id"], "stage": node.address, "characters": _characters(row, steps), "steps": steps}


def _completions(tables: Tables, node: Node, record: str) -> dict[int, str | None]:
    """By step, what decided about a record."""
    link = next((link for link in Chain(tables, node, record).links if link.node.op == "edit"), None)
    if link is None or not tables.present(link.node, ".trail"):
        return {}
    return {row["step"]: row["completion"] for row in tables.trail(link.node, link.record)}


def _characters(row: Record, steps: Sequence[dict[str, Any]]) -> dict[str, int]:
    found = {"thought": len(row["thought"]), "pruned": len(row.get("pruned") or "")}
    found |= dict.fromkeys(("keep", "delete", "rewrite", "merge", "text", VANISHED), 0)
    for step in steps:
        found[step["decided"]] = found.get(step["decided"], 0) + len(step["text"])
        found["text"] += len(step["new"] or "")
        found[VANISHED] += len(step["text"]) if step["action"] == VANISHED else 0
    return found


def dropped(lineage: Lineage, record: str) -> list[dict[str, Any]]:
    """Where a record, or one whose id extends it, was dropped, and why."""
    tables = lineage.tables
    found = []
    for node in lineage.graph.nodes.values():
        if node.base and tables.present(node, ".dropped"):
            rows = tables.under(node, record, "id", "reason", "detail", part=".dropped")
            found += [{"stage": node.address, **row} for row in rows]
    return found


# -- any of them ---------------------------------------------------------------------------------------------------------------


def parted(lineage: Lineage, nodes: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """Stages whose records can be read here, and those whose cannot; DataError with the cure where none can."""
    here = [node for node in nodes if lineage.tables.present(node)]
    if not here:
        lineage.tables.file(nodes[0])
    return here, [node for node in nodes if node not in here]


def datasets(lineage: Lineage, target: str | None) -> list[Node]:
    """The stages that a target other than a record means; None: all that recipes are for and where steps were decided about."""
    if target is None:
        every = [node for recipe in lineage.graph.recipes for node in lineage.graph.datasets(recipe)]
        found = [node for node in every if deciding(lineage.graph, node)]
        if not found:
            raise DataError("no data set here comes from a stage of op edit: name a stage to see what records were dropped")
        return found
    subject = lineage.subject(target)
    nodes = [source for node in subject.nodes for source in (lineage.graph.inputs(node) if node.model else [node])]
    if subject.kind not in ("recipe", "stage", "file", "model") or not all(node.base for node in nodes) or not nodes:
        text = subject.kind == "text"
        what = f"no record, recipe, stage or data file {target!r}" if text else f"{target!r} is a {subject.kind}"
        known = f"{lineage.unseen}{lineage.meant(target)}" if text else ""
        raise DataError(f"{what}: name a record, a recipe, a stage that makes records, or a data file of {lineage.snapshot.name}"
                        f"{known}")  # fmt: skip
    return nodes
