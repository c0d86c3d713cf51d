"""The completion store, looked at while others may use it: drp writes and creates nothing.

SQLite itself may: where the store has a log (`-wal`: a stage runs, or was killed), it is read by way of an index beside it
(`-shm`), which SQLite rebuilds after a kill; and both stay there where the stage ends while they are read.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from drp.errors import DataError
from drp.store import wal
from drp.store.completions import PATIENCE, Store, whole

TRIES = 4
"""Looks at a store that changes meanwhile; the last one is by way of SQLite's locks, whatever that leaves beside it."""


class Peek(Store):
    """The store as it stands. Without a log nobody writes to it: it is read without any lock, so that SQLite leaves no files
    beside it, and read anew, with locks, as soon as somebody does. Who uses it is not hindered, who replaces it is."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._models, self._stages, self._held = {}, {}, -1
        self.db: sqlite3.Connection
        self._stamp: tuple[int, ...] | None = None
        with suppress(FileNotFoundError, PermissionError):  # no stage ever made it, or it is another's: do without
            self._held = os.open(wal.beside(self.path, ".lock"), os.O_RDONLY)
        try:
            if self._held >= 0:
                fcntl.flock(self._held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self._connect(alone=True)
        except BlockingIOError as error:
            self.close()
            raise DataError(f"{path}: the completion store is being repaired by another process: wait for it") from error
        except (sqlite3.DatabaseError, OSError) as error:
            self.close()
            raise self.unusable(error) from error
        except DataError:
            self.close()
            raise

    def rows(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        """All rows of a query, looked up again where the file changed under it."""
        given = tuple(values)
        for last in (*[False] * (TRIES - 1), True):
            try:
                found = super().rows(statement, given)
                if self._stamp is None or self._stamp == self._now():
                    return found
            except DataError:
                if last:
                    raise
            try:
                self.db.close()  # first: `whole` closes the file, which would take SQLite's locks on it away
                self._connect(alone=not last)
            except (sqlite3.DatabaseError, OSError) as error:
                raise self.unusable(error) from error
        return super().rows(statement, given)

    def _connect(self, alone: bool) -> None:
        """Open the file; if it may be taken to be `alone` and has no log, without locks."""
        whole(self.path)
        stamp = self._now() if alone else None
        self._stamp = stamp if stamp and stamp[-1] < 0 else None
        how = "mode=ro" if self._stamp is None else "immutable=1"
        self.db = sqlite3.connect(f"{self.path.as_uri()}?{how}", uri=True, timeout=PATIENCE, isolation_level=None)
        self._format()

    def _now(self) -> tuple[int, ...]:
        """What tells one state of the file from another; the last is -1 where it has no log."""
        try:
            log = os.stat(wal.beside(self.path, "-wal")).st_size
        except FileNotFoundError:
            log = -1
        here = os.stat(self.path)
        return here.st_ino, here.st_mtime_ns, here.st_size, log

    def close(self) -> None:
        """Let go of the file."""
        if hasattr(self, "db"):
            self.db.close()
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def peek(path: Path) -> Peek | None:
    """The store, or None where there is none."""
    return Peek(path) if path.exists() else None
