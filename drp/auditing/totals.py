"""Whether nothing vanished: counts are the rows, and what came in was kept or dropped, id by id."""

from collections.abc import Iterator, Sequence
from typing import Any

from drp.auditing.finding import MANY, Check
from drp.auditing.sums import Sums
from drp.errors import DataError
from drp.lineage.graph import MANIFEST, Node
from drp.lineage.tables import Tables, unglobbed
from drp.recipe.resolve import Stage

LEVELS = 3
"""How many parts an op may add to an id (`<id>/<nnn>` is one)."""


def totals(sums: Sums, tables: Tables, nodes: Sequence[Node]) -> Check:
    """The counts of the manifests beside the rows; the ids that came in beside those that were kept or dropped."""
    check = Check("records", "stages whose records add up")
    for node in nodes:
        if node.base is None:
            continue
        inputs = sums.fed(node)
        if lacking := [other for other in (node, *(inputs or ())) if not _ready(sums, tables, other)]:
            check.skip(node.address, f"not counted: the files of {lacking[0].address} are not here as their lock names them")
            continue
        check.looked += 1
        try:
            check.faults(f"{node.base}{MANIFEST}", _counts(sums, tables, node), _cure(node))
            check.faults(f"{node.base}.parquet", _ids(sums, tables, node, inputs), _cure(node))
        except DataError as error:
            check.fault(f"{node.base}.parquet", f"{error}{_cure(node)}")
    return check


def _cure(node: Node) -> str:
    return f"; `dvc repro -f -s recipes/{node.recipe}/dvc.yaml:{node.slug}` makes it anew from stored completions"


def _ready(sums: Sums, tables: Tables, node: Node) -> bool:
    return sums.sound(node) and all(tables.present(node, part) for part in ("", ".dropped", ".trail"))


def _counts(sums: Sums, tables: Tables, node: Node) -> Iterator[str]:
    counts = sums.manifest(node).get("counts") or {}
    said: dict[str, int] = {str(k): v for k, v in (counts.get("dropped") or {}).items()}
    kept = tables.count(node)
    rows = tables.query(
        "select reason, count(*) as n from read_parquet(?) group by reason", [unglobbed(tables.file(node, ".dropped"))]
    )
    found = {row["reason"]: row["n"] for row in rows}
    if counts.get("kept") != kept:
        yield f"it says that {counts.get('kept')} were kept, {node.base}.parquet has {kept} rows"
    for reason in sorted({*said, *found}):
        if said.get(reason, 0) != found.get(reason, 0):
            yield (
                f"it says that {said.get(reason, 0)} were dropped for {reason}, "
                f"{node.base}.dropped.parquet has {found.get(reason, 0)} of them"
            )
    stage = sums.stages.get(node.address)
    if stage is not None and not stage.op.makes_records and counts.get("read") != kept + sum(found.values()):
        yield f"read {counts.get('read')}, but kept {kept} and dropped {sum(found.values())}: some vanished"


def _ids(sums: Sums, tables: Tables, node: Node, inputs: list[Node] | None) -> Iterator[str]:
    stage = sums.stages.get(node.address)
    own = [unglobbed(tables.file(node)), unglobbed(tables.file(node, ".dropped"))]
    if repeated := _query(tables, "select id from read_parquet(?) group by id having count(*) > 1", own[:1]):
        yield f"the id {repeated[0]} stands in it more than once"
    if node.op == "evaluate" and stage is not None:
        yield from _items(sums, tables, node, stage)
    if not inputs or stage is None:
        return
    came = [unglobbed(tables.file(other)) for other in inputs]
    if stage.op.makes_records:
        parents = " and ".join(f"{_cut(level)} not in (select id from came)" for level in range(1, LEVELS + 1))
        sql = f"select id from made where id not in (select id from came) and {parents}"
        yield from (f"the record {id_} is made from none of its inputs" for id_ in _set(tables, sql, came, own))
        return
    both = "(select id, 1 as n from came union all select id, -1 from made)"
    lost = f"select id from {both} group by id having sum(n) > 0"
    more = f"select id from {both} group by id having sum(n) < 0"
    yield from (f"the record {id_} of its input is neither kept nor dropped" for id_ in _set(tables, lost, came, own))
    yield from (f"the record {id_} is in none of its inputs, or more often than there" for id_ in _set(tables, more, came, own))


def _cut(level: int) -> str:
    """SQL: an id without its last parts."""
    return f"regexp_replace(id, '(/[^/]*){{{level}}}$', '')"


def _items(sums: Sums, tables: Tables, node: Node, stage: Stage) -> Iterator[str]:
    """Rows of an evaluation whose item is not in the suite that they name."""
    refs = [ref for refs in stage.named.values() for ref in refs]
    suites = [other for ref in refs if (other := sums.graph.maker(f"{ref.data}.parquet")) and _ready(sums, tables, other)]
    if len(suites) != len(refs):
        return
    labels = sums.graph.labels(node, suites)
    for row in tables.query("select distinct suite from read_parquet(?)", [unglobbed(tables.file(node))]):
        if row["suite"] not in labels:
            yield f"it has a suite {row['suite']!r}, which it was not given"
            continue
        sql = "select distinct item as id from read_parquet(?) where suite = ? and item not in (select id from read_parquet(?))"
        asked = [unglobbed(tables.file(node)), row["suite"], unglobbed(tables.file(labels[row["suite"]]))]
        yield from (f"the item {id_} is not in the suite {row['suite']}" for id_ in _query(tables, sql, asked))


def _set(tables: Tables, sql: str, came: list[str], made: list[str]) -> list[str]:
    """Ids, by SQL over `came` (the ids of all inputs, each as often as it came) and `made` (those kept or dropped)."""
    named = "with came as (select id from read_parquet(?)), made as (select id from read_parquet(?)) "
    return _query(tables, named + sql, [came, made])


def _query(tables: Tables, sql: str, values: list[Any]) -> list[str]:
    return [row["id"] for row in tables.query(f"{sql} order by id limit {MANY + 1}", values)]
