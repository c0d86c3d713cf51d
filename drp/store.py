"""The completion store: every answer ever paid for, by its request's content address, beside DVC's own cache."""

import json
import sqlite3
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from drp.backends import Answer, Ask, Backend
from drp.errors import DataError
from drp.models import Completion, Request

_SCHEMA = """
create table if not exists completions (
    key text primary key, model text not null, request text not null, completion text not null, finish text not null
) without rowid
"""
BURST = 512
"""Stored answers handed out in one go, before the backend gets its turn."""


class Store:
    """SQLite in WAL mode: an answer is durable (fsync) before it is used; several processes may share it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        try:
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error
        for statement in ("pragma journal_mode=wal", "pragma synchronous=full", _SCHEMA):
            self._row(statement)

    def _row(self, statement: str, values: tuple[object, ...] = ()) -> tuple[str, ...] | None:
        """Run a statement, and give its first row; DataError with the cure where the file is not a sound store."""
        try:
            row: tuple[str, ...] | None = self._db.execute(statement, values).fetchone()
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error
        return row

    def _unusable(self, error: sqlite3.DatabaseError) -> DataError:
        return DataError(
            f"{self.path}: the completion store cannot be used: {error}; "
            "make room if the disk is full, else move it aside to start a new one"
        )

    def get(self, request: Request) -> Completion | None:
        """The completion of an equal request, if there is one that may be reused."""
        key = request.key()
        row = self._row("select completion from completions where key = ?", (key,))
        found = Completion(**json.loads(row[0]), key=key) if row else None
        return found if found and found.answers(request) else None

    def put(self, request: Request, completion: Completion) -> Completion:
        """Keep an answer, whole or not (a failed one, or one cut off that should not be, is kept and not reused)."""
        if known := self.get(request):  # another process was quicker: one answer to a request, for good
            return known
        key = request.key()
        asked = json.dumps({"messages": [asdict(m) for m in request.messages], "schema": request.schema,
                            "index": request.index, "seed": request.seed}, ensure_ascii=False)  # fmt: skip
        plain = asdict(completion)
        plain.pop("key")
        self._row(
            "insert or replace into completions values (?, ?, ?, ?, ?)",
            (key, json.dumps(request.model.identity()), asked, json.dumps(plain, ensure_ascii=False), completion.finish),
        )
        return replace(completion, key=key)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


class Stored:
    """A backend that answers from the store where it can, and keeps what the backend below it answers."""

    def __init__(self, inner: Backend, store: Store) -> None:
        self.inner, self.store = inner, store
        self.hits = self.misses = 0

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Answer | None]:
        """As the backend below, minus what is stored."""
        ready: deque[Answer] = deque()
        open_: dict[int, Request] = {}
        alike: dict[str, list[int]] = {}  # tickets by key: equal requests in flight are asked once

        def missing() -> Iterator[Ask | None]:
            for ask in asks:
                if ask is None:
                    yield None
                    continue
                known = self.store.get(ask.request)
                if known is None:
                    open_[ask.ticket] = ask.request
                    waiting = alike.setdefault(ask.request.key(), [])
                    waiting.append(ask.ticket)
                    if len(waiting) == 1:
                        self.misses += 1
                        yield ask
                    continue
                self.hits += 1
                ready.append(Answer(ask.ticket, known))
                if len(ready) >= BURST:
                    yield None

        for answer in self.inner.complete(missing()):
            if answer is not None:
                request = open_[answer.ticket]
                completion = self.store.put(request, answer.completion)
                for ticket in alike.pop(request.key()):
                    del open_[ticket]
                    yield Answer(ticket, completion)
            while ready:
                yield ready.popleft()
            if answer is None:
                yield None
        yield from ready
