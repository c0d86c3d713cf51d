"""Whether the completion store is sound, and how what is sound in a broken one is saved."""

import fcntl
import json
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from drp.disk import sync
from drp.errors import DataError
from drp.store import wal
from drp.store.completions import FORMAT, Store, digest_of, fresh, hold, key_of

PROBES = 1_000_000
"""Rows looked for one by one in a gap of a table whose index cannot be read."""

Row = tuple[Any, ...]


@dataclass
class Health:
    """What was found: rows by table, and every fault in words. After a repair: rows saved, rows lost, where the old file is."""

    rows: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    aside: Path | None = None


# -- looking ---------------------------------------------------------------------------------------------------------------


def check(path: Path) -> Health:
    """Read all of it: SQLite's own check of the file, every digest, every key made anew from its request."""
    health = Health()
    try:
        store = Store(path)
    except DataError as error:
        health.faults.append(str(error))
        return health
    store.db.text_factory = _text
    try:
        store.db.execute("begin")  # one moment of it, whoever writes meanwhile
        try:
            found = [line for (line,) in store.db.execute("pragma integrity_check")]
            health.faults += [line.replace("*** in database main ***\n", "") for line in found if line != "ok"]
        except sqlite3.DatabaseError as error:
            health.faults.append(str(error))
        for table in _tables(store.db):
            _look(table, store.db, health)
    finally:
        store.close()
    return health


def _look(table: "_Table", db: sqlite3.Connection, health: Health) -> None:
    walk = Walk(db, table)
    for row in walk:
        health.rows[table.name] += 1
        if fault := _fault(table, row, db):
            health.faults.append(f"{table.name} {_named(table, row)}: {fault}")
    if walk.faults:
        many = f"{walk.lost} rows" if walk.lost else "rows"
        health.faults.append(f"{table.name}: {many} cannot be read ({', '.join(sorted(walk.faults))})")


def _named(table: "_Table", row: Row) -> str:
    key = row[table.columns.index("key")] if "key" in table.columns else b""
    return key.hex() if isinstance(key, bytes) and key else "/".join(map(str, row[: len(table.key)]))


def _fault(table: "_Table", row: Row, db: sqlite3.Connection) -> str:
    """What is wrong with a row; what it refers to is looked for in `db`."""
    there = dict(zip(table.columns, row, strict=True))
    if table.name == "completions":
        return _unsound(there, db)
    for column, other in (("stage", "stages"), ("completion", "completions")):
        if table.name != "stages" and isinstance(there.get(column), int) and not _has(db, other, there[column]):
            return f"there is no {column} {there[column]}"
    return ""


def _has(db: sqlite3.Connection, table: str, row: int) -> bool:
    try:
        return bool(db.execute(f"select count(*) from {table} where id = ?", (row,)).fetchone()[0])
    except sqlite3.DatabaseError:  # it cannot be read, which the walk of that table says
        return False


def _unsound(row: dict[str, Any], db: sqlite3.Connection) -> str:
    try:
        if digest_of(row["completion"]) != row["digest"]:
            return "its digest differs: it is not what was stored"
        found = db.execute("select identity from models where id = ?", (row["model"],)).fetchall()
        if not found:
            return f"there is no model {row['model']}"
        if key_of(found[0][0], row["request"]) != row["key"]:
            return "its key differs: its request, or its model, is not what was stored"
        plain = json.loads(row["completion"])
        wrong = [name for name in ("finish", "prompt_tokens", "completion_tokens") if plain.get(name) != row[name]]
        return f"{', '.join(wrong)} differ from what it says itself" if wrong else ""
    except (ValueError, TypeError, AttributeError, sqlite3.DatabaseError) as error:
        return f"it cannot be read: {error}"


# -- walking ---------------------------------------------------------------------------------------------------------------


class _Table(NamedTuple):
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    indices: tuple[str, ...]


def _tables(db: sqlite3.Connection) -> list[_Table]:
    """The tables of a sound store. The leases too: their holders have ended, and what these may owe must not be forgiven."""
    names = [name for (name,) in db.execute("select name from sqlite_master where type = 'table' order by rowid")]
    found = []
    for name in names:
        if name.startswith("sqlite_"):
            continue
        columns = db.execute(f"select name, pk from pragma_table_info('{name}')").fetchall()
        key = tuple(column for column, place in sorted(columns, key=lambda c: c[1]) if place)
        indices = tuple(n for n, o in db.execute(f"select name, origin from pragma_index_list('{name}')") if o != "pk")
        found.append(_Table(name, tuple(column for column, _ in columns), key, indices))
    return found


class Walk:
    """All rows of a table that can be read: forwards to the first bad page, backwards to the last one, and one by one between.

    `faults` are SQLite's words; `lost` is how many rows an index knows of that could not be read.
    """

    def __init__(self, db: sqlite3.Connection, table: _Table) -> None:
        self.db, self.table = db, table
        self.faults: set[str] = set()
        self.lost = 0

    def __iter__(self) -> Iterator[Row]:
        table, key = self.table, ", ".join(self.table.key)
        select = f"select {', '.join(table.columns)} from {table.name}"
        places = [table.columns.index(column) for column in table.key]
        low: Row = ()
        for row in _until_bad(self.db, f"{select} order by {key}", (), self.faults):
            low = tuple(row[place] for place in places)
            yield row
        if not self.faults:
            return
        high: Row = ()
        behind = f" where ({key}) > ({', '.join('?' * len(low))})" if low else ""
        back = ", ".join(f"{column} desc" for column in table.key)
        for row in _until_bad(self.db, f"{select}{behind} order by {back}", low, self.faults):
            high = tuple(row[place] for place in places)
            yield row
        if table.key == ("id",):
            yield from self._between(select, low[0] if low else 0, high[0] if high else None)

    def _between(self, select: str, low: int, high: int | None) -> Iterator[Row]:
        known, complete = self._known(low, high)
        end = high or max(known, default=low + PROBES) + 1
        tried = known.keys() if complete else {*known, *range(low + 1, min(end, low + 1 + PROBES))}
        for number in sorted(tried):
            try:
                row = self.db.execute(f"{select} where id = ?", (number,)).fetchone()
            except sqlite3.DatabaseError:
                row = None
            row = row or known.get(number)
            if row:
                yield row
            elif number in known:
                self.lost += 1

    def _known(self, low: int, high: int | None) -> tuple[dict[int, Row | None], bool]:
        """The rows in a gap by the indices, whole where an index has all columns; and whether one could be read to its end."""
        known: dict[int, Row | None] = {}
        complete = False
        for name in self.table.indices:
            columns = [row[0] for row in _until_bad(self.db, f"select name from pragma_index_info('{name}')", (), set())]
            full = {*columns, "id"} == {*self.table.columns}
            for direction in ("asc", "desc"):
                faults: set[str] = set()
                order = ", ".join(f"{column} {direction}" for column in columns)
                read = ", ".join(self.table.columns) if full else "id"
                query = f"select {read} from {self.table.name} indexed by {name} order by {order}"
                for row in _until_bad(self.db, query, (), faults):
                    if low < row[0] and (high is None or row[0] < high):
                        known[row[0]] = row if full else known.get(row[0])
                if not faults:
                    complete = True
                    break
        return known, complete


def _until_bad(db: sqlite3.Connection, query: str, values: Row, faults: set[str]) -> Iterator[Row]:
    """The rows of a query up to the first that cannot be read, which is said in `faults`."""
    try:
        yield from db.execute(query, values)
    except sqlite3.DatabaseError as error:
        faults.add(str(error))


def _text(raw: bytes) -> str:
    """Text as it stands; what is not UTF-8 any more fails its digest, not the reading."""
    return str(raw, "utf-8", "replace")


# -- repairing -------------------------------------------------------------------------------------------------------------


def repair(path: Path) -> Health:
    """Write what is sound into a new file, and set the old one aside. DataError where a process uses it, or nothing is left."""
    path = path.absolute()
    try:
        held = hold(path, fcntl.LOCK_EX)
    except BlockingIOError as error:
        raise DataError(f"{path}: another process uses the completion store: end it, or wait for it, then repair") from error
    try:
        for left in (*path.parent.glob(".new-*"), *path.parent.glob(".repair-*")):  # of processes that were killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".repair-") as folder:
            new, old = Path(folder) / "new", Path(folder) / "old"
            fresh(new)
            _whole_copy(path, old)
            health = _save(old, new, path)
            health.aside = _exchange(path, new)
        return health
    except (OSError, sqlite3.DatabaseError) as error:
        raise DataError(f"{path}: cannot be repaired: {error}; it is left as it was; see whether the disk is full") from error
    finally:
        os.close(held)


def _whole_copy(path: Path, copy: Path) -> None:
    """The file with every page of its log that is whole, also those behind the damage that SQLite would not read."""
    shutil.copyfile(path, copy)
    log = wal.Log(wal.beside(path, "-wal"))
    with copy.open("r+b") as file:
        for number, page in log.pages():
            file.seek((number - 1) * log.page)
            file.write(page)
        if file.seek(0, os.SEEK_END) >= 100:
            file.seek(18)
            file.write(b"\x01\x01")  # no log any more


def _save(old: Path, new: Path, path: Path) -> Health:
    health = Health()
    with closing(sqlite3.connect(new, isolation_level=None)) as target:
        with closing(_readable(old, new, path)) as source:
            target.execute("pragma journal_mode=off").fetchone()
            target.execute("begin")
            for table in _tables(target):
                _copy(table, source, target, health)
            target.execute("commit")
        if not any(health.rows.values()):
            raise DataError(f"{path}: nothing in it can be read; it is left as it is: bring back a copy, or move it aside")
        target.execute("pragma journal_mode=wal").fetchone()
    with new.open("rb") as file:
        os.fsync(file.fileno())
    return health


def _readable(old: Path, new: Path, path: Path) -> sqlite3.Connection:
    """The broken file, opened; where its first page is spoilt, with that of a new store, whose tables begin on the same pages."""
    for first in (b"", new.read_bytes()[:4096]):
        if first:
            with old.open("r+b") as file:
                pages = file.seek(0, os.SEEK_END) // len(first)
                file.seek(0)  # its own number of pages, no free ones, no log
                file.write(first[:18] + b"\x01\x01" + first[20:28] + pages.to_bytes(4, "big") + bytes(8) + first[40:])
        db = sqlite3.connect(old)
        db.text_factory = _text
        try:
            (version,) = db.execute("pragma user_version").fetchone()
            tables = db.execute("select count(*) from sqlite_master").fetchone()[0]
        except sqlite3.DatabaseError:
            db.close()
            continue
        if version != FORMAT and tables:
            db.close()
            raise DataError(f"{path}: has format {version}, not {FORMAT}: that is no damage, and cannot be repaired")
        if tables:
            return db
        db.close()
    raise DataError(f"{path}: nothing in it can be read; it is left as it is: bring back a copy, or move it aside")


def _copy(table: _Table, source: sqlite3.Connection, target: sqlite3.Connection, health: Health) -> None:
    into = f"insert into {table.name} ({', '.join(table.columns)}) values ({', '.join('?' * len(table.columns))})"
    walk = Walk(source, table)
    for row in walk:
        fault = _fault(table, row, target)
        if not fault:
            try:
                target.execute(into, row)
                health.rows[table.name] += 1
            except sqlite3.IntegrityError as error:
                fault = str(error)
        if fault:
            health.lost[table.name] += 1
            health.faults.append(f"{table.name} {_named(table, row)}: {fault}")
    health.lost[table.name] += walk.lost
    if walk.faults:
        many = f"{walk.lost} rows" if walk.lost else "rows"
        health.faults.append(f"{table.name}: {many} could not be read ({', '.join(sorted(walk.faults))})")


def _exchange(path: Path, new: Path) -> Path:
    """Set the old file aside with its log, and put the new one in its place. At no moment does a store open that lacks what
    the old one had: in between stands an empty file, which is refused."""
    number = next(n for n in range(1, 1000) if not path.with_name(f"{path.name}.broken-{n}").exists())
    aside = path.with_name(f"{path.name}.broken-{number}")
    parts = [end for end in ("-wal", "-shm") if wal.beside(path, end).exists()]
    for end in ("", *parts):
        os.link(wal.beside(path, end), wal.beside(aside, end))
    empty = new.with_name("empty")
    empty.touch()
    shutil.copymode(path, new)
    sync(path.parent)
    os.replace(empty, path)
    sync(path.parent)
    for end in parts:
        wal.beside(path, end).unlink()
    sync(path.parent)
    os.replace(new, path)
    sync(path.parent)
    return aside
