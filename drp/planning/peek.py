"""The completion store, looked at without touching it: nothing is created, written or locked."""

import sqlite3
from pathlib import Path

from drp.store import wal
from drp.store.completions import Store, whole


class Peek(Store):
    """The store as it stands. Where no process has it open it cannot change, and SQLite need leave no files beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._models, self._stages, self._held = {}, {}, -1
        how = "mode=ro" if wal.beside(self.path, "-wal").exists() else "immutable=1"
        try:
            whole(self.path)
            self.db = sqlite3.connect(f"{self.path.as_uri()}?{how}", uri=True, isolation_level=None)
            self._format()
        except (sqlite3.DatabaseError, OSError) as error:
            raise self.unusable(error) from error

    def close(self) -> None:
        """Let go of the file."""
        self.db.close()


def peek(path: Path) -> Peek | None:
    """The store, or None where there is none."""
    return Peek(path) if path.exists() else None
