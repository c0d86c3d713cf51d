"""A sorted Parquet file, looked into: the row groups that a key can be in are found by bisecting their statistics.

Of a file of a million records, DuckDB's lookup by id takes 6 to 100 ms (it weighs every row group's statistics of every
column), this one half a millisecond for a few columns; `benchmarks/lineage.py` measures answers that touch ten files.
"""

import bisect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from drp.errors import DataError
from drp.records import Record, arrow


class Ordered:
    """One file whose rows rise by `key`, held open. A lookup reads the key column of one row group (two at a border),
    and of the columns asked for only that group; nothing is read of the others. `repeated` are columns of few different texts,
    which are decoded once each. DataError where the file is not sound."""

    def __init__(self, path: Path, key: str, repeated: Sequence[str] = ()) -> None:
        arrow()  # keeps pandas out: importing it takes longer than all lookups together
        import pyarrow.parquet as pq

        self.path, self.key = path, key
        with self._sound():
            self._file = pq.ParquetFile(path, memory_map=True, pre_buffer=False, read_dictionary=list(repeated))
            self._groups = range(self._file.metadata.num_row_groups)

    @contextmanager
    def _sound(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError) as error:
            cure = "`drp verify` says which files are not what their locks name"
            raise DataError(f"{self.path}: cannot be read as Parquet: {error}; {cure}") from error

    @property
    def columns(self) -> list[str]:
        """The names of its columns."""
        return list(self._file.schema_arrow.names)

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self._file.metadata.num_rows)

    @cached_property
    def _place(self) -> int:
        """The key's place among the leaves of the columns."""
        group = self._file.metadata.row_group(0)
        return next(k for k in range(group.num_columns) if group.column(k).path_in_schema == self.key)

    def _greatest(self, group: int) -> str:
        found = self._file.metadata.row_group(group).column(self._place).statistics
        return str(found.max) if found is not None and found.has_min_max else str(self._keys(group)[-1].as_py())

    def _keys(self, group: int) -> Any:
        return self._file.read_row_group(group, columns=[self.key], use_threads=False).column(0)

    def between(self, first: str, end: str, columns: Sequence[str] | None = None) -> Iterator[Record]:
        """The rows with first ≤ key < end, in order; all columns, or those."""
        with self._sound():
            for group in self._groups[bisect.bisect_left(self._groups, first, key=self._greatest) :]:
                keys = self._keys(group)
                low, high = (bisect.bisect_left(keys, bound, key=lambda key: key.as_py()) for bound in (first, end))
                if low < high:
                    found = self._file.read_row_group(group, columns=columns, use_threads=False)
                    yield from found.slice(low, high - low).to_pylist()
                if high < len(keys):
                    return

    def at(self, key: str, columns: Sequence[str] | None = None) -> list[Record]:
        """The rows of exactly that key."""
        return list(self.between(key, key + "\0", columns))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
