"""Two states of one set of records, record by record: joined on the id and a hash of the columns, were there a million.

Only what differs is looked at further: where going down from the source it differs first, or where it was lost and why.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from drp.comparing.lying import Lying
from drp.comparing.picking import picked
from drp.comparing.turns import turns
from drp.errors import DataError
from drp.lineage.graph import Graph, Node
from drp.lineage.spine import Pair, givers, pairs, spine
from drp.lineage.tables import Tables, unglobbed
from drp.pipeline.locked import Made
from drp.planning.why import Output
from drp.records import Record

Fate = Literal["changed", "gone", "added"]
FATES: tuple[Fate, ...] = ("changed", "gone", "added")

NOT_LOADED, NOT_MADE, BY_HAND = "not-loaded", "not-made", "by-hand"
"""Why a record is nowhere, where nothing dropped it: its source has it not; a stage that makes records made it not; the file was
changed by hand."""
COUNTED = ("thought", "pruned", "target")
"""Texts whose characters are counted."""
COMPOSED = {"target": ("pruned", "target_reply"), "response": ("thought", "reply")}
"""Texts that are put together from others: where one of those differs, it says all."""
PAGE = 4096
"""Records that are fetched at a time."""


@dataclass(frozen=True)
class State:
    """A data set as one state of a project has it; `name` is how people call that state."""

    name: str
    graph: Graph
    node: Node


class Comparison:
    """Two states of a data set; nothing is read before it is asked for, and nothing at all where both are the same bytes.

    `record` narrows it to the record with that id, and to those whose ids extend it.
    """

    def __init__(self, old: State, new: State, record: str | None = None) -> None:
        self.old, self.new, self.record = old, new, record
        self.pair = Pair(old.node, new.node)
        self._old, self._new = Tables(old.graph), Tables(new.graph)
        self._lying = Lying(old.graph.snapshot.project)

    @cached_property
    def same(self) -> bool:
        """Whether both are the same bytes: of the workspace those that lie there, and of its files that are gone those that its
        locks name."""
        old, new = (self._lying.md5(tables.graph, *_made(node)) for tables, node in self._both)
        return old == new

    @property
    def faults(self) -> list[Output]:
        """Which files of the workspace are not what its locks name; of those that are gone, what was compared by locks."""
        found = (self._lying.fault(tables.graph, *_made(node)) for tables, node in self._both)
        return [fault for fault in found if fault and (fault.fate != "missing" or self.same)]

    def check(self) -> None:
        """DataError where what differs could only be compared with a file that is another by now."""
        for tables, node in self._both:
            if not self.same:
                self._lying.check(tables, *_made(node))

    @property
    def _both(self) -> tuple[tuple[Tables, Node], tuple[Tables, Node]]:
        return (self._old, self.old.node), (self._new, self.new.node)

    @property
    def holds_record(self) -> bool:
        """Whether either state has the record that is asked for, or one whose id extends it; of states that are the same, one
        is looked at that can be read here; DataError where none can."""
        sides = list(self._both)
        if self.same:
            sides = [side for side in sides if side[0].present(side[1])][:1] or sides[:1]
        return any(self._query(f"select id from {self._file(*side)} limit 1") for side in sides)

    # -- counts ------------------------------------------------------------------------------------------------------------

    @cached_property
    def counts(self) -> dict[str, int]:
        """Records of the old state, of the new one, and how many are the same, changed, gone and added."""
        self._join()
        rows = self._query("select fate, count(*) as n from differing group by fate")
        found = dict.fromkeys(FATES, 0) | {row["fate"]: row["n"] for row in rows}
        old, new = (self._query(f"select count(*) as n from {side}")[0]["n"] for side in self._sides)
        return {"old": old, "new": new, "same": old - found["gone"] - found["changed"], **found}

    @cached_property
    def first(self) -> list[dict[str, Any]]:
        """Of the changed records: the stage where each differs first, how many, and in which columns."""
        self._attribute()
        rows = self._query(
            "select stage, list_sort(columns) as columns, count(*) as n from first group by all order by stage, n desc, columns"
        )
        found: dict[int, dict[str, Any]] = {}
        for row in rows:
            stage = found.setdefault(row["stage"], {"stage": self._chain[row["stage"]].name, "records": 0, "columns": {}})
            stage["records"] += row["n"]
            for column in row["columns"]:
                stage["columns"][column] = stage["columns"].get(column, 0) + row["n"]
        return list(found.values())

    def lost(self, fate: Literal["gone", "added"]) -> list[dict[str, Any]]:
        """Where the records that one state has not (the new one those that are gone, the old one those added) were lost there,
        and why."""
        self._lose()
        return self._query(f"""select stage, reason, count(*) as records from lost where fate = '{fate}'
            group by place, stage, reason order by place, records desc, reason""")

    @cached_property
    def characters(self) -> dict[str, tuple[int, int]]:
        """Characters of the texts of all records, in the old and in the new state."""
        kinds = _types(self._old.file(self.old.node)), _types(self._new.file(self.new.node))
        names = [name for name in COUNTED if all(kind.get(name) == "string" for kind in kinds)]
        if not names:
            return {}
        sums = ", ".join(f'coalesce(sum(length("{name}")), 0)::bigint as "{name}"' for name in names)
        old, new = (self._query(f"select {sums} from {side}")[0] for side in self._sides)
        return {name: (old[name], new[name]) for name in names}

    @cached_property
    def actions(self) -> list[dict[str, Any]]:
        """Steps of changed records, cut alike in both states, whose action (`action`), or only its text (`words`), its group
        (`group`) or its reason (`reason`) is another, by skill."""
        if not self._acted:
            return []
        self._steps()
        return self._query("""
            select old, new, what, skill, count(*) as steps from (
              select a.action as old, b.action as new, a.skill as skill, case
                when a.action <> b.action then 'action' when a.text is distinct from b.text then 'words'
                when a.into is distinct from b.into then 'group' when a.reason is distinct from b.reason then 'reason' end as what
              from old_steps a join new_steps b using (id, first, last))
            where what is not null group by all order by what, steps desc, old, new, skill""")

    @cached_property
    def cut(self) -> dict[str, int]:
        """Steps of changed records that only the old, or only the new state has: the thought is the same, but cut otherwise."""
        if not self._acted:
            return {"old": 0, "new": 0}
        self._steps()
        alone = "select count(*) as n from {} a anti join {} b using (id, first, last)"
        sides = (("old", "old_steps", "new_steps"), ("new", "new_steps", "old_steps"))
        return {side: self._query(alone.format(here, there))[0]["n"] for side, here, there in sides}

    # -- columns -----------------------------------------------------------------------------------------------------------

    @cached_property
    def columns(self) -> list[str]:
        """The columns that both states have, in the old one's order."""
        theirs = self._new.columns(self.new.node)
        return [name for name in self._old.columns(self.old.node) if name in theirs]

    @property
    def alone(self) -> dict[str, list[str]]:
        """Columns that only one of the states has; they make no record a changed one."""
        old, new = self._old.columns(self.old.node), self._new.columns(self.new.node)
        return {"old": [c for c in old if c not in new], "new": [c for c in new if c not in old]}

    # -- records -----------------------------------------------------------------------------------------------------------

    def records(self, fate: Fate, most: int | None = None) -> Iterator[dict[str, Any]]:
        """The records of a fate by id, in full, `most` of them (None: all)."""
        if self.same:
            return
        yield from islice(self._changed() if fate == "changed" else self._missing(fate), most)

    def _changed(self) -> Iterator[dict[str, Any]]:
        self._attribute()
        for page in self._pages("select id, stage, columns from first where id > ? order by id"):
            ids = [row["id"] for row in page]
            old, new = (picked(tables.file(node), ids, self.columns) for tables, node in self._both)
            for row, before, now in zip(page, old, new, strict=True):
                differing = [name for name in self.columns if before[name] != now[name]]
                first = {"stage": self._chain[row["stage"]].name, "columns": row["columns"]}
                yield {"id": row["id"], "state": "changed", **first, "then": self._by_stage(differing, row["stage"]),
                       "actions": turns(before, now), **_values(before, now, differing)}  # fmt: skip

    def _by_stage(self, differing: Sequence[str], first: int) -> dict[str, list[str]]:
        """What differs in the end and did not at first, by the stage that it came with."""
        found: dict[str, list[str]] = {}
        known = set(self._shared(first))
        for number in range(first + 1, len(self._chain)):
            here = [c for c in differing if c in self._shared(number) and c not in known]
            known |= set(here)
            if here:
                found[self._chain[number].name] = here
        return found

    def _missing(self, fate: Literal["gone", "added"]) -> Iterator[dict[str, Any]]:
        self._lose()
        for page in self._pages(
            f"select id, fate as state, stage, reason, detail from lost where fate = '{fate}' and id > ? order by id"
        ):
            yield from page

    def _pages(self, sql: str) -> Iterator[list[Record]]:
        last = ""
        while page := self._query(f"{sql} limit {PAGE}", [last]):
            yield page
            last = page[-1]["id"]

    # -- the join ------------------------------------------------------------------------------------------------------------

    @cached_property
    def _paired(self) -> list[Pair]:
        """The stages that the records came through and that both states have, from the source down; last the data set."""
        found = pairs(spine(self.old.graph, self.old.node), spine(self.new.graph, self.new.node))
        ends = {self.old.node.address, self.new.node.address}
        return [*(pair for pair in found if not ends & {pair.old.address, pair.new.address}), self.pair]

    @cached_property
    def _chain(self) -> list[Pair]:
        """Those of them whose records differ."""
        return [pair for pair in self._paired if not (self.same if pair is self.pair else pair.same)]

    @cached_property
    def _sides(self) -> tuple[str, str]:
        """Both files, as SQL."""
        return self._file(self._old, self.old.node), self._file(self._new, self.new.node)

    def _file(self, tables: Tables, node: Node, select: str = "*") -> str:
        """The data set itself, narrowed to the record that is asked for."""
        where = f" where {_under(self.record)}" if self.record else ""
        return f"(select {select} from {_scan(tables.file(node))}{where})"

    def _query(self, sql: str, values: Sequence[Any] = ()) -> list[Record]:
        return self._old.query(sql, values)

    def _once(self, table: str) -> bool:
        """Whether a table is still to be made; asked once."""
        made = self.__dict__.setdefault("_made", set())
        return not (table in made or made.add(table))

    def _hashes(self, pair: Pair, names: Sequence[str]) -> list[str]:
        """SQL for the hash of each column; where its types differ, of the value as text."""
        old, new = _types(self._old.file(pair.old)), _types(self._new.file(pair.new))
        return [f'hash("{name}"{"" if old[name] == new[name] else "::varchar"})' for name in names]

    def _join(self) -> None:
        if not self._once("differing"):
            return
        names = [name for name in self.columns if name != "id"]
        select = f"id, hash({', '.join(['0', *self._hashes(self.pair, names)])}) as h"
        a, b = self._file(self._old, self.old.node, select), self._file(self._new, self.new.node, select)
        self._query(f"""create temp table differing as
            select coalesce(a.id, b.id) as id,
              case when b.id is null then 'gone' when a.id is null then 'added' else 'changed' end as fate
            from {a} a full join {b} b on a.id = b.id where a.id is null or b.id is null or a.h <> b.h""")
        self._query("""create temp table names as
            select id, fate, unnest([array_to_string(parts[1:k], '/') for k in range(1, len(parts) + 1)]) as name
            from (select id, fate, string_split(id, '/') as parts from differing)""")

    def _shared(self, number: int) -> list[str]:
        """The columns that both files of a pair of the chain have, but the id."""
        pair = self._chain[number]
        theirs = self._new.columns(pair.new)
        return [name for name in self._old.columns(pair.old) if name in theirs and name != "id"]

    def _attribute(self) -> None:
        """The table `first`: where each changed record differs first."""
        self._join()
        if not self._once("first"):
            return
        self._query("create temp table first (id varchar, stage integer, columns varchar[])")
        for number, pair in enumerate(self._chain):
            todo = "select id, name from names where fate = 'changed' and id not in (select id from first)"
            if not self._query(f"{todo} limit 1"):
                return
            names = self._shared(number)
            hashed = ", ".join(["id", *(f"{h} as h{k}" for k, h in enumerate(self._hashes(pair, names)))])
            within = f"where id in (select name from ({todo}))"
            unlike = ", ".join(f"case when a.h{k} <> b.h{k} then {_quoted(name)} end" for k, name in enumerate(names))
            self._query(f"""insert into first
                with a as (select {hashed} from {_scan(self._old.file(pair.old))} {within}),
                  b as (select {hashed} from {_scan(self._new.file(pair.new))} {within}),
                  d as (select id as name, [c for c in [{unlike}] if c is not null] as columns from a join b using (id))
                select todo.id, {number}, arg_max(d.columns, length(d.name))
                from ({todo}) todo join d on d.name = todo.name where len(d.columns) > 0 group by todo.id""")

    def _lose(self) -> None:
        """The table `lost`: where each record that only one state has went in the other."""
        self._join()
        if not self._once("lost"):
            return
        self._query(
            "create temp table lost (id varchar, fate varchar, place integer, stage varchar, reason varchar, detail varchar)"
        )
        self._lose_one("gone", (self._old, "old"), (self._new, "new"), self.new)
        self._lose_one("added", (self._new, "new"), (self._old, "old"), self.old)

    def _lose_one(self, fate: Fate, there: tuple[Tables, str], here: tuple[Tables, str], state: State) -> None:
        """What `here` has not: the first stage that dropped it; else the first that has it not, though its counterpart has."""
        tables, side = here
        todo = f"select id, name from names where fate = '{fate}' and id not in (select id from lost)"
        answering = {getattr(pair, side).address: pair for pair in self._chain}
        paired = {getattr(pair, side).address for pair in self._paired}
        stages = [n for n in spine(state.graph, state.node) if n.address in answering or n.address not in paired]
        for place, node in enumerate(stages):
            if not self._query(f"{todo} limit 1"):
                return
            self._query(f"""insert into lost
                with dropped as (
                    select id as name, min(reason) as reason, arg_min(detail, reason) as detail
                    from {_scan(tables.file(node, ".dropped"))} where id in (select name from ({todo})) group by id)
                select todo.id, '{fate}', {place}, '{node.slug}', arg_max(d.reason, length(name)), arg_max(d.detail, length(name))
                from ({todo}) todo join dropped d using (name) anti join {_scan(tables.file(node))} f on f.id = name
                group by todo.id""")
        for place, node in enumerate(stages):
            if node.address not in answering or not self._query(f"{todo} limit 1"):
                continue
            pair = answering[node.address]
            reason = BY_HAND if pair.same else NOT_MADE if givers(state.graph, node) else NOT_LOADED
            other = getattr(pair, there[1])
            self._query(f"""insert into lost
                with held as (
                    select todo.id, arg_max(todo.name, length(todo.name)) as name
                    from ({todo}) todo join {_scan(there[0].file(other))} f on f.id = todo.name group by todo.id)
                select held.id, '{fate}', {place}, '{node.slug}', '{reason}', ''
                from held anti join {_scan(tables.file(node))} f on f.id = held.name""")

    @property
    def _acted(self) -> bool:
        """Whether both say what became of each step."""
        return {"thought", "steps", "actions"} <= set(self.columns)

    def _steps(self) -> None:
        """The tables `old_steps` and `new_steps`: a row a step, of the changed records whose thought is the same; the hashes of
        ids and texts, since there may be many."""
        self._join()
        if not self._once("steps"):
            return
        old, new = self._sides
        self._query(f"""create temp table alike as
            select a.id from {old} a join {new} b using (id)
            where hash(a.thought) = hash(b.thought) and a.id in (select id from differing where fate = 'changed')""")
        for name, side in (("old_steps", old), ("new_steps", new)):
            self._query(f"""create temp table {name} as
                select hash(id) as id, s.start::integer as first, s."end"::integer as last, s.skill as skill, t.action as action,
                  hash(t.text) as text, t.into as into, hash(t.reason) as reason
                from (select id, unnest(steps) as s, unnest(actions) as t from {side} where id in (select id from alike))""")

    def close(self) -> None:
        """Let go of the files."""
        with ExitStack() as stack:
            stack.callback(self._old.close)
            stack.callback(self._new.close)


def _values(old: Record, new: Record, differing: Sequence[str]) -> dict[str, Any]:
    """The texts and the plain values that differ; of lists and structures, the names stand among the columns."""
    texts, values = {}, {}
    for name in differing:
        sides = {"old": old[name], "new": new[name]}
        if any(isinstance(v, str) and any(map(str.isspace, v)) for v in sides.values()):
            if not set(COMPOSED.get(name, ())) & set(differing):
                texts[name] = sides
        elif not any(isinstance(v, list | dict) for v in sides.values()):
            values[name] = sides
    return {"texts": texts, "values": values}


def _made(node: Node) -> tuple[str, Made]:
    """The file of a stage's records, and what its lock names."""
    path = f"{node.base}.parquet"
    return path, node.outs.get(path, Made(""))


def _types(path: Path) -> dict[str, str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return {field.name: str(field.type) for field in pq.read_schema(path)}
    except (pa.ArrowException, OSError) as error:
        cure = "`drp verify` says which files are not what their locks name"
        raise DataError(f"{path}: cannot be read as Parquet: {error}; {cure}") from error


def _scan(path: Path) -> str:
    return f"read_parquet({_quoted(unglobbed(path))})"


def _under(record: str) -> str:
    """The condition of a record's id, and of the ids that extend it."""
    return f"(id = {_quoted(record)} or (id >= {_quoted(record + '/')} and id < {_quoted(record + '0')}))"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
