"""Whether a record still has the question of its id, after an op of the project's own: `why` follows ids."""

import typing
from collections.abc import Iterator, Sequence

from drp.auditing.finding import MANY
from drp.lineage.graph import Node
from drp.lineage.tables import Tables, unglobbed
from drp.recipe.stages import Stage

COLUMNS = ("question", "answer")
"""What `load` gives a record with its id, and no op changes."""
OTHER = """
with came as (select id, {column} from read_parquet(?, union_by_name = true)),
made as (select id, {column}, string_split(id, '/') as p from read_parquet(?)),
begun as (select id, {column}, unnest([array_to_string(p[1:k], '/') for k in range(1, len(p) + 1)]) as start from made),
pairs as (
  select m.id, m.{column} is not distinct from c.{column} as same, length(start) as n from begun m join came c on m.start = c.id
),
nearest as (select id, max(n) as n from pairs group by id)
select id, count(*) over () as wrong from pairs join nearest using (id, n) group by id having not bool_or(same)
order by id limit ?"""
"""SQL, of inputs and records: ids whose value is not that of the input's record of that id (or of its longest beginning)."""


def carried(tables: Tables, node: Node, stage: Stage, inputs: Sequence[Node]) -> Iterator[str]:
    """What is wrong, in words. drp's own ops carry these columns along; the `Adds` of another may declare that it changes one."""
    if stage.op.module.startswith("drp.") or not inputs:
        return
    declared = typing.get_type_hints(stage.op.adds) if stage.op.adds else {}
    for column in COLUMNS:
        if column in declared or any(column not in tables.columns(each) for each in (node, *inputs)):
            continue
        files = [[unglobbed(tables.file(other)) for other in inputs], unglobbed(tables.file(node))]
        if found := tables.query(OTHER.format(column=column), [*files, MANY]):
            wrong, there = found[0]["wrong"], " or ".join(other.slug for other in inputs)
            some = ", ".join(row["id"] for row in found) + (", …" if wrong > MANY else "")
            yield f"{wrong} of its records have another {column} than the record of their id in {there} ({some})"
