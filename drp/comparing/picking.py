"""Rows of a Parquet file that is sorted by id, picked by rising ids: a row group at a time, and only those that are needed."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from drp.errors import DataError
from drp.records import Record


def picked(path: Path, ids: Iterable[str], columns: Sequence[str]) -> Iterator[Record]:
    """The rows with these ids, which must rise and be there; DataError where one is not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting = iter(ids)
    wanted = next(waiting, None)
    try:
        with pq.ParquetFile(path) as file:
            place = file.schema_arrow.names.index("id")
            for number in range(file.num_row_groups):
                bounds = file.metadata.row_group(number).column(place).statistics
                if wanted is None:
                    return
                if bounds is not None and bounds.has_min_max and bounds.max < wanted:
                    continue
                group = file.read_row_group(number, columns=list(dict.fromkeys(["id", *columns])))
                here = {name: row for row, name in enumerate(group.column("id").to_pylist())}
                rows: list[int] = []
                while wanted is not None and wanted in here:
                    rows.append(here[wanted])
                    wanted = next(waiting, None)
                yield from group.take(rows).to_pylist() if rows else ()
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    if wanted is not None:
        raise DataError(f"{path}: no record {wanted!r}, or the file is not sorted by id; `drp verify` says what it should be")
