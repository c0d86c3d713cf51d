"""The records of stages, looked up where they lie: by id, by the beginning of an id, by a piece of text."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from drp.errors import DataError
from drp.lineage.graph import Graph, Node
from drp.lineage.ordered import Ordered
from drp.records import Record

if TYPE_CHECKING:
    import duckdb

Part = Literal["", ".dropped", ".trail"]
"""Which of a stage's files: its records, those it dropped, or the trail."""

PARTS: tuple[Part, ...] = ("", ".dropped")
"""The files of records."""
REPEATED = ("record", "skill", "action", "reason", "completion")
"""Columns of a trail in which a text stands again and again."""
PAGE = 4096
"""Rows of an answer that are held at a time."""
AFTER = "0"
"""The character behind `/`: ids that extend X lie from `X/` up to `X0`."""


class Tables:
    """The files of a graph: sorted (by id; trails by record), so that a lookup reads a row group or two; for searches and sums,
    DuckDB over them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._open: dict[tuple[str, Part], Ordered] = {}

    @cached_property
    def db(self) -> "duckdb.DuckDBPyConnection":
        """The connection: in memory, with nothing from the network."""
        import duckdb

        db = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
        db.execute("set enable_progress_bar = false")
        db.execute("set parquet_metadata_cache = true")
        scratch = str(self.graph.snapshot.project.scratch / "duckdb").replace("'", "''")  # made only where memory is not enough
        db.execute(f"set temp_directory = '{scratch}'")
        return db

    def file(self, node: Node, part: Part = "") -> Path:
        """Where one of a stage's Parquet files lies; DataError where the stage makes no records, or they are nowhere."""
        path = f"{node.base}{part}.parquet"
        if node.base is None or path not in node.outs:
            raise DataError(f"{node.address}: makes no records")
        return self.graph.snapshot.data(path, node.outs[path])

    def present(self, node: Node, part: Part = "") -> bool:
        """Whether the file can be read here (or the stage makes none: it can not)."""
        path = f"{node.base}{part}.parquet"
        return path in node.outs and self.graph.snapshot.find(path, node.outs[path]) is not None

    def absent(self, nodes: Iterable[Node] | None = None) -> list[Node]:
        """Those of some stages (of all) whose records cannot be read here."""
        among = self.graph.nodes.values() if nodes is None else nodes
        return [node for node in among if node.base and not self.present(node)]

    def brings(self, it: str, nodes: Iterable[Node]) -> str:
        """The cure for files of stages that are not here."""
        return self.graph.snapshot.brings(it, *(f"data/{node.address}" for node in nodes))

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[Record]:
        """The rows of a query, as dictionaries; DataError where a file is not sound."""
        import duckdb

        try:
            found = self.db.execute(sql, list(values))
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        except duckdb.Error as error:
            raise DataError(f"a data file cannot be read: {error}; `drp verify` says which is not what its lock names") from error

    def ordered(self, node: Node, part: Part = "") -> Ordered:
        """A stage's file, open for lookups by its key."""
        key = (node.address, part)
        if key not in self._open:
            path = self.file(node, part)
            self._open[key] = Ordered(path, "record", REPEATED) if part == ".trail" else Ordered(path, "id")
        return self._open[key]

    def stream(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Record]:
        """As `query`, a page at a time, for answers of any length."""
        import duckdb

        try:
            found = self.db.cursor().execute(sql, list(values))
            names = [column[0] for column in found.description or ()]
            while page := found.fetchmany(PAGE):
                yield from (dict(zip(names, row, strict=True)) for row in page)
        except duckdb.Error as error:
            raise DataError(f"a data file cannot be read: {error}; `drp verify` says which is not what its lock names") from error

    def columns(self, node: Node, part: Part = "") -> list[str]:
        """The columns of a stage's file."""
        return self.ordered(node, part).columns

    def row(self, node: Node, record: str, *columns: str, part: Part = "") -> Record | None:
        """The row with that id, of these columns (all of them where none is named); None where there is none."""
        return next(iter(self.ordered(node, part).at(record, columns or None)), None)

    def under(self, node: Node, record: str, *columns: str, part: Part = "", limit: int = 1000) -> list[Record]:
        """The rows with that id, and those whose ids extend it (`<id>/…`), in order."""
        file = self.ordered(node, part)
        extended = file.between(f"{record}/", f"{record}{AFTER}", columns or None)
        return list(islice(chain(file.at(record, columns or None), extended), limit))

    def beginning(self, node: Node, start: str, limit: int = 3, part: Part = "") -> list[str]:
        """Ids that begin with `start`."""
        found = self.ordered(node, part).between(start, f"{start}\U0010ffff", ["id"])
        return [row["id"] for row in islice(found, limit)]

    def trail(self, node: Node, record: str, *columns: str) -> list[Record]:
        """The trail's rows of a record, in order; none where the trail is not here (`present` says whether it is)."""
        if not self.present(node, ".trail"):
            return []
        return self.ordered(node, ".trail").at(record, columns or None)

    def containing(self, node: Node, column: str, text: str, limit: int) -> tuple[list[str], int]:
        """The first ids of the rows whose text column holds a piece of text, and how many do; the whole column is read."""
        where = f"where contains({_quoted(column)}, ?) order by id limit {limit}"
        rows = self.query(f"select id, count(*) over () as n from read_parquet(?) {where}", [unglobbed(self.file(node)), text])
        return [row["id"] for row in rows], rows[0]["n"] if rows else 0

    def count(self, node: Node, part: Part = "") -> int:
        """How many rows a file has."""
        return self.ordered(node, part).rows

    # -- where a record is, in stages -----------------------------------------------------------------------------------

    def source(self, node: Node, record: str) -> tuple[Node, str] | None:
        """The record of an input that is here that a stage made a record from: of that id, or of the longest beginning of it."""
        inputs = [other for other in self.graph.inputs(node) if self.present(other)]
        name = record
        while name:
            for other in inputs:
                if self.row(other, name, "id"):
                    return other, name
            name = name.rpartition("/")[0]
        return None

    def close(self) -> None:
        """Let go of the files."""
        for file in self._open.values():
            file.close()
        self._open.clear()
        if "db" in self.__dict__:
            self.db.close()


def unglobbed(path: Path) -> str:
    """A path as DuckDB reads that very file: what it would take for a pattern stands in brackets."""
    return re.sub(r"([\[*?])", r"[\1]", str(path))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
