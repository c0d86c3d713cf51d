"""The completion store: every answer ever paid for, by its request's content address, beside DVC's own cache."""

import hashlib
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from drp.errors import DataError
from drp.models import Completion, Request

FORMAT = 2
"""The version of the tables, in SQLite's `user_version`."""
SCHEMA = """
create table models (id integer primary key, identity text not null unique);
create table stages (id integer primary key, recipe text not null, stage text not null, unique (recipe, stage));
create table completions (
    id integer primary key, key blob not null unique, model integer not null references models (id), request text not null,
    completion text not null, digest blob not null, finish text not null, prompt_tokens integer not null,
    completion_tokens integer not null, at integer not null
);
create table uses (stage integer not null, completion integer not null, primary key (stage, completion)) without rowid;
create table payments (
    id integer primary key, at integer not null, stage integer not null references stages (id), key blob not null,
    prompt_tokens integer not null, completion_tokens integer not null, cost real not null
);
create index payments_by_stage on payments (stage);
create table leases (
    id integer primary key, process text not null, recipe text not null, stage text not null, amount real not null
);
create table texts (md5 text primary key, text text not null) without rowid;
create table runs (
    id integer primary key, at integer not null, stage integer not null references stages (id), model integer not null,
    asked integer not null, seconds real not null, prompt_tokens integer not null, completion_tokens integer not null
);
"""
"""completions: one answer a request, the first whole one. uses: what a stage's last run was answered with. payments: every
answer that came from a backend, and what it cost its stage. leases: money set aside by running processes. texts: prompts as
they were when a stage used them. runs: how fast stages were answered."""

CURE = "`drp cache check --repair` saves what is sound; if the disk is full, make room"


class Owner(NamedTuple):
    """The stage that asks: never part of a key."""

    recipe: str
    stage: str


NOBODY = Owner("", "")


class Store:
    """SQLite in WAL mode: an answer is durable (fsync) before it is used; several processes may share it.

    DataError, with the cure, where the file is torn, corrupt, emptied or of another format; it is then left as it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not path.exists():
                _create(path)
            self._whole()
            self.db = sqlite3.connect(path, timeout=60, isolation_level=None)
            (version,) = self.db.execute("pragma user_version").fetchone()
            for statement in ("pragma journal_mode=wal", "pragma synchronous=full"):
                self.db.execute(statement).fetchone()
        except (sqlite3.DatabaseError, OSError) as error:
            raise self.unusable(error) from error
        if version != FORMAT:
            self.close()
            raise DataError(f"{path}: the completion store has format {version}, not {FORMAT}: move it aside to start a new one")
        self._models: dict[str, int] = {}
        self._stages: dict[Owner, int] = {}

    def _whole(self) -> None:
        """DataError where the file is shorter than its own header says (and no log could make up for it)."""
        with self.path.open("rb") as file:
            head = file.read(100)
        log = self.path.with_name(self.path.name + "-wal")
        if not head and not (log.exists() and log.stat().st_size):
            raise DataError(
                f"{self.path}: the completion store is empty, which it never is: bring it back, or remove it to start anew"
            )
        if head[:16] == b"SQLite format 3\x00" and not (log.exists() and log.stat().st_size):
            page = int.from_bytes(head[16:18], "big")
            said = int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page)
            if self.path.stat().st_size < said:
                raise DataError(
                    f"{self.path}: the completion store is torn (malformed): {self.path.stat().st_size} of {said} bytes; {CURE}"
                )

    def unusable(self, error: Exception) -> DataError:
        """What to raise for an error of SQLite's."""
        return DataError(f"{self.path}: the completion store cannot be used: {error}; {CURE}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, alone among writers, durable at its end."""
        try:
            self.db.execute("begin immediate")
            try:
                yield self.db
            except BaseException:
                self.db.execute("rollback")
                raise
            self.db.execute("commit")
        except sqlite3.DatabaseError as error:
            raise self.unusable(error) from error

    def rows(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        """All rows of a query; DataError where the file is not sound."""
        try:
            return self.db.execute(statement, tuple(values)).fetchall()
        except sqlite3.DatabaseError as error:
            raise self.unusable(error) from error

    # -- completions -----------------------------------------------------------------------------------------------------

    def get(self, request: Request) -> Completion | None:
        """The completion of an equal request, if there is one that may be reused."""
        key = request.key()
        for text, digest in self.rows("select completion, digest from completions where key = ?", (bytes.fromhex(key),)):
            found = self._read(key, text, digest)
            return found if found.answers(request) else None
        return None

    def _read(self, key: str, text: str, digest: bytes) -> Completion:
        if digest_of(text) != digest:
            raise DataError(f"{self.path}: completion {key} is not what was stored (its digest differs); {CURE}")
        return Completion(**json.loads(text), key=key)

    def keep(
        self, answered: Sequence[tuple[Request, Completion]], owner: Owner = NOBODY, costs: Sequence[float] = ()
    ) -> list[Completion]:
        """Keep answers in one transaction, whole or not (one that failed, or was cut off and should not be, is not reused).

        Each comes back with its key; where another process was quicker, its answer does: one answer to a request, for good.
        `costs` are what was paid for each (nothing where absent).
        """
        kept: list[Completion] = []
        now = int(time.time())
        with self.transaction() as db:
            stage = self.stage(owner)
            for place, (request, completion) in enumerate(answered):
                key = request.key()
                cost = costs[place] if costs else 0.0
                db.execute(
                    "insert into payments (at, stage, key, prompt_tokens, completion_tokens, cost) values (?, ?, ?, ?, ?, ?)",
                    (now, stage, bytes.fromhex(key), completion.prompt_tokens, completion.completion_tokens, cost),
                )
                if known := self.get(request):
                    kept.append(known)
                    continue
                self.insert(request, completion, now)
                kept.append(replace(completion, key=key))
        return kept

    def insert(self, request: Request, completion: Completion, at: int) -> None:
        """Put one answer in the place of any other to the same request, inside a transaction."""
        plain = asdict(completion)
        del plain["key"]
        text = json.dumps(plain, ensure_ascii=False)
        self.db.execute(
            "insert into completions (key, model, request, completion, digest, finish, prompt_tokens, completion_tokens, at) "
            "values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (key) do update set completion = excluded.completion, "
            "digest = excluded.digest, finish = excluded.finish, prompt_tokens = excluded.prompt_tokens, "
            "completion_tokens = excluded.completion_tokens, at = excluded.at",
            (bytes.fromhex(request.key()), self._model(request.model.identity()), _asked(request), text, digest_of(text),
             completion.finish, completion.prompt_tokens, completion.completion_tokens, at),
        )  # fmt: skip

    def _model(self, identity: dict[str, Any]) -> int:
        text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
        if text not in self._models:
            self.db.execute("insert or ignore into models (identity) values (?)", (text,))
            ((self._models[text],),) = self.db.execute("select id from models where identity = ?", (text,)).fetchall()
        return self._models[text]

    # -- who used what -----------------------------------------------------------------------------------------------------

    def stage(self, owner: Owner) -> int:
        """The number of a stage, given to it inside a transaction."""
        if owner not in self._stages:
            self.db.execute("insert or ignore into stages (recipe, stage) values (?, ?)", owner)
            found = self.db.execute("select id from stages where recipe = ? and stage = ?", owner).fetchall()
            ((self._stages[owner],),) = found
        return self._stages[owner]

    def begin(self, owner: Owner) -> None:
        """Forget which completions the stage used: its next run says it anew."""
        with self.transaction() as db:
            db.execute("delete from uses where stage = ?", (self.stage(owner),))

    def used(self, owner: Owner, keys: Iterable[str]) -> None:
        """The stage was answered with these completions."""
        with self.transaction() as db:
            stage = self.stage(owner)
            db.executemany(
                "insert or ignore into uses select ?, id from completions where key = ?",
                ((stage, bytes.fromhex(key)) for key in keys),
            )

    def close(self) -> None:
        """Let go of the file."""
        self.db.close()


def digest_of(completion: str) -> bytes:
    """The digest that stands beside a completion's JSON."""
    return hashlib.blake2b(completion.encode(), digest_size=8).digest()


def _asked(request: Request) -> str:
    """A request as JSON, its model apart: what its key was made from."""
    return json.dumps(
        {"messages": [[m.role, m.content] for m in request.messages], "schema": request.schema, "index": request.index,
         "seed": request.seed},
        ensure_ascii=False,
    )  # fmt: skip


def _create(path: Path) -> None:
    """A new store in one step: nobody ever sees half of one, and of two processes one is quicker."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
        new = Path(folder) / path.name
        db = sqlite3.connect(new)
        db.executescript(SCHEMA + f"pragma user_version = {FORMAT};")
        db.close()
        try:
            os.link(new, path)
        except FileExistsError:
            return
