"""A Parquet file that a stage made, as exports read it: one that is not sound is a DataError with the cure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from drp.errors import DataError
from drp.records import arrow


def schema(file: Path) -> Any:
    """Its Arrow schema."""
    import pyarrow.parquet as pq

    return _sound(file, pq.read_schema)


def rows(file: Path) -> int:
    """How many rows it has."""
    import pyarrow.parquet as pq

    return int(_sound(file, pq.read_metadata).num_rows)


def table(file: Path) -> Any:
    """All of it."""
    import pyarrow.parquet as pq

    return _sound(file, pq.read_table)


def beginning(file: Path, column: str) -> Any:
    """A column of its first row group."""
    import pyarrow.parquet as pq

    return _sound(file, lambda path: pq.ParquetFile(path).read_row_group(0, columns=[column]))


def _sound(file: Path, read: Callable[[Path], Any]) -> Any:
    arrow()
    import pyarrow as pa

    try:
        return read(file)
    except (pa.ArrowException, OSError) as error:
        cure = "`drp verify` says which files are not what their locks name, `dvc checkout --force` brings those back"
        raise DataError(f"{file}: cannot be read as Parquet: {error}; {cure}") from error
