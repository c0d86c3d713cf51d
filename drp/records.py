"""Records: one problem and what has been made of it so far, read from and written to sorted Parquet."""

import itertools
import json
import os
import reprlib
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypedDict

from drp.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Record = dict[str, Any]
"""Column name to value; `id` is always there and is unique within a file."""

ROWS = 1024
"""Rows in a row group: fixed, because other boundaries are other bytes and would defeat early cut-off."""
NOT_OF_TYPE = (ValueError, TypeError, OverflowError)
"""What pyarrow raises where a value is not of a column's type (its own errors are among these; so is a lone surrogate's)."""
TRAIL_ROWS = 16384
"""The same in a trail, whose rows are small: a million records have a dozen million, and each group costs a reader time."""


class TrailRow(NamedTuple):
    """What was done to one step of one record: offsets are characters of the trace (`src`) and of the pruned trace (`out`), which
    may be absent; `parents` are ids where records came together. A tuple, for a million records have a dozen million rows."""

    record: str
    step: int
    skill: str | None = None
    action: str | None = None
    reason: str | None = None
    src_start: int | None = None
    src_end: int | None = None
    out_start: int | None = None
    out_end: int | None = None
    parents: tuple[str, ...] = ()
    completion: str | None = None


class DroppedRow(TypedDict):
    """A record that an op refused, why, and what it looked like."""

    id: str
    stage: str
    reason: str
    detail: str
    reply: str
    record: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A record that goes on, with the rows it adds to the stage's trail."""

    record: Record
    trail: tuple[TrailRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record that an op refuses: `reason` from a short list, `detail` for people, `reply` as the model gave it."""

    record: Record
    reason: str
    detail: str = ""
    reply: str = ""


Outcome = Kept | Dropped


def trail_row(
    record: str,
    step: int,
    *,
    skill: str | None = None,
    action: str | None = None,
    reason: str | None = None,
    source: tuple[int, int] | None = None,
    output: tuple[int, int] | None = None,
    parents: Iterable[str] = (),
    completion: str | None = None,
) -> TrailRow:
    """A row of the trail; spans are [start, end) in characters of the trace and of the pruned trace."""
    src, out = source or (None, None), output or (None, None)
    return TrailRow(record, step, skill, action, reason, src[0], src[1], out[0], out[1], tuple(parents), completion)


class _Without:
    """An import finder that has no pandas."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """ImportError for pandas; of all else it knows nothing."""
        if name == "pandas":
            raise ImportError(name)


def arrow() -> Any:
    """The module pyarrow, without pandas: building its first array imports pandas to compare types with, which costs each
    stage 0.2 s and 40 MB. Kept from it at that first time, pyarrow goes on without, until somebody asks for a data frame."""
    import pyarrow as pa

    if "pandas" not in sys.modules:
        finder = _Without()
        sys.meta_path.insert(0, finder)
        try:
            pa.array([0])
        finally:
            sys.meta_path.remove(finder)
    return pa


def arrow_type(annotation: Any) -> "pa.DataType":
    """The Arrow type of a column: str, int, float, bool, list[T], tuple[T, ...], a TypedDict, or one of them `| None`."""
    import pyarrow as pa

    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        (inner,) = [a for a in typing.get_args(annotation) if a is not type(None)]
        return arrow_type(inner)
    if origin is typing.Literal:
        return pa.string()
    if origin in (list, tuple):
        return pa.list_(arrow_type(typing.get_args(annotation)[0]))
    if typing.is_typeddict(annotation):
        return pa.struct([pa.field(k, arrow_type(v)) for k, v in typing.get_type_hints(annotation).items()])
    plain = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return plain[annotation]


def schema_of(columns: Any, base: "pa.Schema | None" = None) -> "pa.Schema":
    """The Arrow schema of the columns of a TypedDict or NamedTuple, laid over `base` (a column of the same name is replaced)."""
    import pyarrow as pa

    fields = {f.name: f for f in base} if base is not None else {}
    for name, annotation in typing.get_type_hints(columns).items():
        fields[name] = pa.field(name, arrow_type(annotation))
    return pa.schema(list(fields.values()))


def trail_schema(told: Mapping[str, str]) -> "pa.Schema":
    """A trail's columns; what is the same in all rows stands once, in the file's metadata, as `drp.<name>`."""
    return schema_of(TrailRow).with_metadata({f"drp.{name}": value for name, value in told.items()} or None)


def schema_at(path: Path) -> "pa.Schema":
    """The schema of a Parquet file, without its metadata; DataError where it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise DataError(f"{path}: no such file; run the stage that makes it, or `dvc checkout` / `dvc pull`")
    try:
        return pq.read_schema(path).remove_metadata()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from error


def read(path: Path) -> Iterator[Record]:
    """The records of a Parquet file, in the file's order, a row group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise DataError(f"{path}: no such file; run the stage that makes it, or `dvc checkout` / `dvc pull`")
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from error


def count(path: Path) -> int:
    """How many records a Parquet file holds (from its footer)."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


class Writer:
    """Writes rows to one Parquet file, `group` rows in a row group: same rows, same bytes. Rows must come sorted by `key`; the
    file appears on close."""

    def __init__(self, path: Path, schema: "pa.Schema", key: str = "id", unique: bool = True, group: int = ROWS) -> None:
        import pyarrow.parquet as pq

        self.path, self.schema, self.key, self.unique, self.group = path, schema, key, unique, group
        self._names = frozenset(schema.names)  # asked of each row: made once
        self.rows = 0
        self._last: str | None = None
        self._buffer: list[Any] = []
        self._temporary = path.with_name(path.name + ".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Statistics of the key alone, which lookups go by: those of long texts would be most of the file's footer.
        self._file = pq.ParquetWriter(self._temporary, schema, compression="zstd", version="2.6", write_statistics=[key])

    def add(self, row: Any) -> None:
        """One row more; DataError where it is out of order, repeats an id, or has columns that the schema lacks."""
        here = row[self.key]
        if self._last is not None and (here < self._last or (self.unique and here == self._last)):
            raise self._disorder(here)
        if not row.keys() <= self._names:
            strange = sorted(row.keys() - self._names)
            raise DataError(f"{self.path.name}: record {here}: undeclared columns {strange}")
        self._last = here
        self._buffer.append(row)
        self.rows += 1
        if len(self._buffer) == self.group:
            self._flush()

    def _disorder(self, here: str) -> DataError:
        return DataError(f"{self.path.name}: {self.key} {here!r} after {self._last!r}: rows must be sorted and unique")

    def _flush(self) -> None:
        if self._buffer:
            self._file.write_table(self._table(), row_group_size=self.group)
            self._buffer = []

    def _table(self) -> "pa.Table":
        """What is buffered, all columns in one pass over the rows: twice as fast as a pass for each."""
        pa = arrow()
        try:
            return pa.Table.from_struct_array(pa.array(self._buffer, type=pa.struct(list(self.schema)))).cast(self.schema)
        except NOT_OF_TYPE:
            for row, (number, column) in itertools.product(self._buffer, enumerate(self.schema)):
                self._fit(row, row[number] if isinstance(row, tuple) else row.get(column.name), column)
            raise

    def _fit(self, row: Any, value: object, column: "pa.Field") -> None:
        """DataError where a row's value is not of its column's type."""
        try:
            arrow().array([value], type=column.type)
        except NOT_OF_TYPE as error:
            name = getattr(row, self.key) if isinstance(row, tuple) else row[self.key]
            at = f"{self.path.name}: record {name}: column {column.name!r}"
            raise DataError(f"{at} is {column.type}, which {reprlib.repr(value)} is not ({error})") from None

    def close(self) -> None:
        """Write what is left and put the file in its place in one step."""
        self._flush()
        self._file.close()
        os.replace(self._temporary, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: object) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self._file.close()
            self._temporary.unlink(missing_ok=True)  # which a close has put in its place


class TrailWriter(Writer):
    """Writes a stage's trail; `told` is what is the same in all of its rows."""

    def __init__(self, path: Path, told: Mapping[str, str] | None = None) -> None:
        super().__init__(path, trail_schema(told or {}), "record", unique=False, group=TRAIL_ROWS)

    def extend(self, rows: Sequence[TrailRow]) -> None:
        """The rows of one outcome; DataError where one is no TrailRow, or out of order."""
        last = self._last or ""
        for row in rows:
            if type(row) is not TrailRow:
                raise DataError(f"{self.path.name}: {reprlib.repr(row)} is no row of a trail: make it with drp.op.trail_row")
            if row.record < last:
                raise self._disorder(row.record)
            self._last = last = row.record
        self._buffer += rows
        self.rows += len(rows)
        while len(self._buffer) >= self.group:
            rest = self._buffer[self.group :]
            del self._buffer[self.group :]
            self._flush()
            self._buffer = rest


def as_json(record: Record) -> str:
    """One record as stable JSON, for the `dropped` file and for people."""
    return json.dumps(record, ensure_ascii=False, sort_keys=True, default=str)
