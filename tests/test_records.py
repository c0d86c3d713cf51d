"""Records on disk: sorted, of the declared columns, and refused with the record and the column named."""

import re
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp.errors import DataError
from drp.records import Writer, schema_of


class Part(TypedDict):
    """A nested value."""

    text: str
    weight: float | None


class Row(TypedDict):
    """What is written."""

    id: str
    count: int | None
    tags: list[str]
    parts: list[Part]


SCHEMA = schema_of(Row)
PARTS = st.fixed_dictionaries({"text": st.text()}, optional={"weight": st.floats(allow_nan=False) | st.none()})
ROWS = st.dictionaries(
    st.text(max_size=4),
    st.fixed_dictionaries(
        {},
        optional={"count": st.integers(-(2**63), 2**63 - 1), "tags": st.lists(st.text()), "parts": st.none() | st.lists(PARTS)},
    ),
    max_size=12,
)


def written(path: Path, *rows: dict[str, Any]) -> None:
    """A file of these rows."""
    with Writer(path, SCHEMA) as file:
        for one in rows:
            file.add(one)


def row(name: str, **columns: Any) -> dict[str, Any]:
    """A row of `Row`."""
    return {"id": name, "count": 1, "tags": [], "parts": [], **columns}


@settings(max_examples=50, deadline=None)
@given(rows=ROWS, group=st.integers(1, 5))
def test_what_is_written_is_what_each_column_on_its_own_would_be(
    rows: dict[str, dict[str, Any]], group: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("w") / "rows.parquet"
    given = [{"id": name, **rows[name]} for name in sorted(rows)]
    with Writer(path, SCHEMA, group=group) as file:
        for one in given:
            file.add(one)
    read = pq.ParquetFile(path)
    columns = [pa.array([one.get(f.name) for one in given], type=f.type) for f in SCHEMA]
    assert read.read().equals(pa.Table.from_arrays(columns, schema=SCHEMA))
    assert read.num_row_groups == -(-len(given) // group)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"count": "three"}, "record b: column 'count' is int64, which 'three' is not"),
        ({"count": 2**64}, "record b: column 'count' is int64, which 18446744073709551616 is not"),
        ({"tags": [1]}, "record b: column 'tags' is list<item: string>, which [1] is not"),
        ({"parts": [{"text": "\ud800"}]}, "record b: column 'parts' is"),
        ({"parts": "x" * 10_000}, "..."),
    ],
)
def test_a_value_of_another_type_is_named_with_its_record_and_column(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as error:
        written(tmp_path / "rows.parquet", row("a"), row("b", **wrong))
    assert said in str(error.value)
    assert "rows.parquet" in str(error.value)
    assert len(str(error.value)) < 400
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (row("a"), "'a' after 'a': rows must be sorted and unique"),
        (row("0"), "'0' after 'a': rows must be sorted and unique"),
        (row("b", cout=3, also=1), "record b: undeclared columns ['also', 'cout']"),
    ],
)
def test_a_row_out_of_order_or_with_other_columns_is_refused(tmp_path: Path, second: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        written(tmp_path / "rows.parquet", row("a"), second)
    assert list(tmp_path.iterdir()) == []
