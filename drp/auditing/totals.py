"""Whether nothing vanished: counts are the rows, and what came in was kept or dropped, id by id."""

from collections.abc import Iterator, Sequence
from typing import Any

from drp.auditing.carried import carried
from drp.auditing.finding import MANY, Check
from drp.auditing.sums import Sums
from drp.errors import DataError
from drp.lineage.graph import MANIFEST, Node
from drp.lineage.tables import Tables, unglobbed
from drp.recipe.stages import Stage


def totals(sums: Sums, tables: Tables, nodes: Sequence[Node]) -> Check:
    """The counts of the manifests beside the rows; the ids that came in beside those that were kept or dropped."""
    check = Check("records", "stages whose records add up")
    for node in nodes:
        if node.base is None:
            continue
        inputs = sums.fed(node)
        if any(other.address in sums.away for other in inputs or ()):
            inputs = None
        if node.address in sums.away and not _ready(sums, tables, node):
            continue
        if lacking := [other for other in (node, *(inputs or ())) if not _ready(sums, tables, other)]:
            words = f"not counted: the files of {lacking[0].address} are not here as their lock names them"
            check.skip(node.address, words, "not counted: files are not here as their locks name them")
            continue
        check.looked += 1
        try:
            check.faults(f"{node.base}{MANIFEST}", _counts(sums, tables, node), _cure(node))
            check.faults(f"{node.base}.parquet", _rows(sums, tables, node), _cure(node))
            check.faults(f"{node.base}.parquet", _ids(sums, tables, node, inputs), _keeping(sums, node))
            _new(sums, check, tables, node, inputs or [])
            if stage := sums.stages.get(node.address):
                check.faults(f"{node.base}.parquet", carried(tables, node, stage, inputs or []), CHANGED)
        except DataError as error:
            check.fault(f"{node.base}.parquet", f"{error}{_cure(node)}")
    return check


CHANGED = ": `why` goes by ids, and would tell of another record; where the op means it, its `Adds` declares the column"


def _cure(node: Node) -> str:
    return f"; `dvc repro -f -s recipes/{node.recipe}/dvc.yaml:{node.slug}` makes it anew from stored completions"


def _keeping(sums: Sums, node: Node) -> str:
    """The cure for ids that are not its inputs': an op of the project's own may mean to make records, and has not said so."""
    stage = sums.stages.get(node.address)
    if stage is None or stage.op.module.startswith("drp."):
        return _cure(node)
    return (
        f"; where op {node.op!r} means to make records, it says `MAKES_RECORDS = True` and makes ids that extend those of its "
        "input (`<id>/…`), or names `parents` in its trail; then `drp compile` and `dvc repro`. Where it keeps ids, the file was "
        f"altered{_cure(node)}"
    )


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


def _rows(sums: Sums, tables: Tables, node: Node) -> Iterator[str]:
    stage = sums.stages.get(node.address)
    own = [unglobbed(tables.file(node))]
    if repeated := _query(tables, "select id from read_parquet(?) group by id having count(*) > 1", own):
        yield f"the id {repeated[0]} stands in it more than once"
    if node.op == "evaluate" and stage is not None:
        yield from _items(sums, tables, node, stage)


def _ids(sums: Sums, tables: Tables, node: Node, inputs: list[Node] | None) -> Iterator[str]:
    stage = sums.stages.get(node.address)
    if not inputs or stage is None or stage.op.makes_records:
        return
    own = [unglobbed(tables.file(node)), unglobbed(tables.file(node, ".dropped"))]
    came = [unglobbed(tables.file(other)) for other in inputs]
    both = "(select id, 1 as n from came union all select id, -1 from made)"
    lost = f"select id from {both} group by id having sum(n) > 0"
    more = f"select id from {both} group by id having sum(n) < 0"
    yield from (f"the record {id_} of its input is neither kept nor dropped" for id_ in _set(tables, lost, came, own))
    yield from (f"the record {id_} is in none of its inputs, or more often than there" for id_ in _set(tables, more, came, own))


def _new(sums: Sums, check: Check, tables: Tables, node: Node, inputs: list[Node]) -> None:
    """Records of an op that makes records, whose ids extend none of its inputs', and whose trail names no parents that are there
    (`<input>:<id>`). drp's own ops make none; what the project's own mean by their ids is not known."""
    stage = sums.stages.get(node.address)
    if not inputs or stage is None or not stage.op.makes_records:
        return
    came = [unglobbed(tables.file(other)) for other in inputs]
    own = [unglobbed(tables.file(node, part)) for part in ("", ".dropped")]
    found = _query(tables, UNRELATED, [came, own, unglobbed(tables.file(node, ".trail"))])
    words = (f"the record {id_} is made from none of its inputs" for id_ in found)
    if stage.op.module.startswith("drp."):
        check.faults(f"{node.base}.parquet", words, _cure(node))
    else:
        cure = ", by its id, and its trail names no parents (`<input>:<id>`) that are there"
        check.faults(f"{node.base}.parquet", words, cure, "note")


UNRELATED = """
with came as (select id from read_parquet(?)),
new as (select id from read_parquet(?) where id not in (select id from came)),
parts as (select id, string_split(id, '/') as p from new),
begun as (select id, unnest([array_to_string(p[1:k], '/') for k in range(1, len(p))]) as parent from parts),
extending as (select id from begun where parent in (select id from came)),
named as (select record as id, unnest(parents) as parent from read_parquet(?)),
told as (select id from named group by id having bool_and(regexp_replace(parent, '^.*:', '') in (select id from came)))
select id from new where id not in (select id from extending) and id not in (select id from told)"""
"""SQL, of inputs, records and trail: ids of records that neither are nor extend an input's, and have no parents there."""


def _items(sums: Sums, tables: Tables, node: Node, stage: Stage) -> Iterator[str]:
    """Rows of an evaluation whose item is not in the suite that they name."""
    refs = [ref for refs in stage.named.values() for ref in refs]
    suites = [other for ref in refs if (other := sums.graph.maker(f"{ref.data}.parquet")) and _ready(sums, tables, other)]
    if len(suites) != len(refs) or any(sums.renewed(node, f"{suite.base}.parquet") for suite in suites):
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
