"""The completion store: every answer ever paid for, by its request's content address, beside DVC's own cache."""

import fcntl
import hashlib
import json
import os
import sqlite3
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from drp.disk import sync
from drp.errors import DataError
from drp.fingerprint import of_value
from drp.models import Completion, Request, identity_text
from drp.store import wal

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
"""completions: one answer a request, the first whole one. uses: what a stage's last run (and one under way) was answered with.
payments: every answer that came from a backend, and what it cost its stage. leases: money set aside by running processes.
texts: prompts as they were when a stage used them. runs: how fast stages were answered."""

TOUCHED = 4096
"""Completions that a run has used, held back before they are noted."""
CURE = "`drp cache check --repair` saves what is sound"
CURES = {
    sqlite3.SQLITE_BUSY: "another process has held it for a minute: run again when that one is through",
    sqlite3.SQLITE_FULL: "make room and run again; what was kept is sound",
    sqlite3.SQLITE_IOERR: "make room if the disk is full, then run again; `drp cache check` says whether all is sound",
    sqlite3.SQLITE_CANTOPEN: "see whether the folder may be written to",
    sqlite3.SQLITE_READONLY: "see whether the folder may be written to",
}
"""What to do about SQLite's errors, by their primary code; CURE for all others."""
PATIENCE = 60.0
"""Seconds to wait while another process writes."""


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
        self.path = path = path.absolute()
        self._models: dict[str, int] = {}
        self._stages: dict[Owner, int] = {}
        self._begun: Owner | None = None
        self._touched: list[bytes] = []
        try:
            _folder(path.parent)
            self._held = hold(path, fcntl.LOCK_SH)
        except BlockingIOError as error:
            raise DataError(f"{path}: the completion store is being repaired by another process: wait for it") from error
        except OSError as error:
            raise self.unusable(error) from error
        try:
            with _OPENING:
                # To close a file takes this process's locks on it away from SQLite: look only if it has none.
                if not any(other.path == path for other in _OPEN):
                    self._there()
                    whole(path)
                self.db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
                _OPEN.add(self)
            self._format()
            (mode,) = self.db.execute("pragma journal_mode=wal").fetchone()
            self.db.execute("pragma synchronous=full")
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.DatabaseError | OSError):
                raise self.unusable(error) from error
            raise
        if mode != "wal":
            self.close()
            raise DataError(f"{path}: the file system has no shared memory for SQLite's log (WAL): put the cache on a local disk")

    def _there(self) -> None:
        log = wal.beside(self.path, "-wal")
        orphan = log.exists() and log.stat().st_size
        if not self.path.exists():
            if orphan:
                raise DataError(f"{self.path}: the completion store is gone, its log {log.name} is not: bring both back together")
            _create(self.path)

    def _format(self) -> None:
        (version,) = self.db.execute("pragma user_version").fetchone()
        if version != FORMAT:
            age = "an earlier" if version < FORMAT else "a later"
            raise DataError(
                f"{self.path}: the completion store has format {version}, not {FORMAT}: {age} drp wrote it; "
                f"use that one, or move it aside to start a new store: mv {self.path.name} {self.path.name}.format-{version}"
            )

    def unusable(self, error: Exception) -> DataError:
        """What to raise for an error of SQLite's or of the system's."""
        if isinstance(error, OSError):
            cure = f"see whether the disk is full, and whether {self.path.parent} may be written to"
        else:
            cure = CURES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, CURE)
        return DataError(f"{self.path}: the completion store cannot be used: {error}; {cure}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, alone among writers, durable at its end."""
        try:
            self.db.execute("begin immediate")
            try:
                yield self.db
                self.db.execute("commit")
            except BaseException:
                self._models.clear()  # numbers given in vain
                self._stages.clear()
                if self.db.in_transaction:
                    self.db.execute("rollback")
                raise
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
            raise self.altered(key)
        return Completion(**json.loads(text), key=key)

    def altered(self, key: str) -> DataError:
        """What to raise for a completion that fails its digest."""
        return DataError(f"{self.path}: completion {key} is not what was stored (its digest differs); {CURE}")

    def keep(
        self, answered: Sequence[tuple[Request, Completion]], owner: Owner = NOBODY, costs: Sequence[float] = ()
    ) -> list[Completion]:
        """Keep answers in one transaction, whole or not (one that failed, or was cut off and should not be, is not reused).

        Each comes back with its key; where another process was quicker, its answer does: one answer to a request, for good.
        `costs` are what was paid for each (nothing where absent). The stage (but not NOBODY) has used them.
        """
        now = int(time.time())
        with self.transaction() as db:
            stage = self.stage(owner)
            paid = costs or [0.0] * len(answered)
            db.executemany(
                "insert into payments (at, stage, key, prompt_tokens, completion_tokens, cost) values (?, ?, ?, ?, ?, ?)",
                (
                    (now, stage, bytes.fromhex(request.key()), done.prompt_tokens, done.completion_tokens, cost)
                    for (request, done), cost in zip(answered, paid, strict=True)
                ),
            )
            kept = [self._kept(request, completion, now) for request, completion in answered]
            if owner != NOBODY:
                self._use(owner, (completion.key for completion in kept))
            return kept

    def _kept(self, request: Request, completion: Completion, at: int) -> Completion:
        if not self.insert(request, completion, at) and (known := self.get(request)):
            return known
        return _keyed(completion, request.key())

    def insert(self, request: Request, completion: Completion, at: int) -> bool:
        """Put one answer in the place of one that the request could not reuse, inside a transaction; whether it was put."""
        reusable = ("stop", "stop" if request.whole else "length")
        return self.put(bytes.fromhex(request.key()), identity_text(request.model), request.asked(), completion, at, reusable)

    def put(
        self, key: bytes, identity: str, asked: str, completion: Completion, at: int, stays: tuple[str, str] = ("", "")
    ) -> bool:
        """As `insert`, for a request as it is stored: its model's identity, and what was asked of it; an answer whose finish
        is in `stays` is not replaced."""
        text = as_stored(completion)
        done = self.db.execute(
            "insert into completions (key, model, request, completion, digest, finish, prompt_tokens, completion_tokens, at) "
            "values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (key) do update set completion = excluded.completion, "
            "digest = excluded.digest, finish = excluded.finish, prompt_tokens = excluded.prompt_tokens, "
            "completion_tokens = excluded.completion_tokens, at = excluded.at where finish not in (?, ?)",
            (key, self._model(identity), asked, text, digest_of(text), completion.finish, completion.prompt_tokens,
             completion.completion_tokens, at, *stays),
        )  # fmt: skip
        return done.rowcount == 1

    def _model(self, identity: str) -> int:
        if identity not in self._models:
            self.db.execute("insert or ignore into models (identity) values (?)", (identity,))
            found = self.db.execute("select id from models where identity = ?", (identity,)).fetchall()
            ((self._models[identity],),) = found
        return self._models[identity]

    # -- who used what -----------------------------------------------------------------------------------------------------

    def stage(self, owner: Owner) -> int:
        """The number of a stage, given to it inside a transaction."""
        if owner not in self._stages:
            self.db.execute("insert or ignore into stages (recipe, stage) values (?, ?)", owner)
            found = self.db.execute("select id from stages where recipe = ? and stage = ?", owner).fetchall()
            ((self._stages[owner],),) = found
        return self._stages[owner]

    def begin(self, owner: Owner) -> None:
        """A run of the stage begins: what it uses is noted apart too. What earlier runs used stays in use until `end`."""
        with self.transaction() as db:
            db.execute("create temp table if not exists touched (completion integer primary key)")
            db.execute("delete from temp.touched")
        self._begun, self._touched = owner, []

    def end(self, owner: Owner) -> None:
        """The run that began ended well: what it did not use, the stage uses no more."""
        if self._begun != owner:
            return
        with self.transaction() as db:
            self._note_touched()
            db.execute(
                "delete from uses where stage = ? and completion not in (select completion from temp.touched)",
                (self.stage(owner),),
            )
            db.execute("delete from temp.touched")
        self._begun = None

    def used(self, owner: Owner, keys: Iterable[str]) -> None:
        """The stage was answered with these completions."""
        with self.transaction():
            self._use(owner, keys)

    def _use(self, owner: Owner, keys: Iterable[str]) -> None:
        found = [bytes.fromhex(key) for key in keys]
        stage = self.stage(owner)
        self.db.executemany(
            "insert or ignore into uses select ?, id from completions where key = ?", ((stage, key) for key in found)
        )
        if self._begun == owner:
            self._touched += found
            if len(self._touched) >= TOUCHED:
                self._note_touched()

    def _note_touched(self) -> None:
        """Many at a time: a temporary table, too, is written at each transaction's end."""
        touched, self._touched = self._touched, []
        self.db.executemany(
            "insert or ignore into temp.touched select id from completions where key = ?", ((key,) for key in touched)
        )

    def close(self) -> None:
        """Let go of the file."""
        if self in _OPEN:
            self.db.close()
            _OPEN.discard(self)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


_OPEN: "weakref.WeakSet[Store]" = weakref.WeakSet()
"""The stores that this process has open."""
_OPENING = threading.Lock()


def hold(path: Path, how: int) -> int:
    """Lock the store as a whole: shared by those who use it, exclusive for who replaces it.

    BlockingIOError where it cannot be had at once. Gives the descriptor to close; a process that ends, however, lets go of it.
    """
    held = os.open(wal.beside(path, ".lock"), os.O_RDONLY | os.O_CREAT, 0o666)
    try:
        fcntl.flock(held, how | fcntl.LOCK_NB)
    except BaseException:
        os.close(held)
        raise
    return held


def whole(path: Path) -> None:
    """DataError where the file or its log lacks what was committed, which SQLite would not mind."""
    size = path.stat().st_size
    if not size:
        broken = sorted(p.name for p in path.parent.glob(f"{path.name}.broken-*") if not p.name.endswith(("-wal", "-shm")))
        raise DataError(
            f"{path}: the completion store is empty, which it never is: bring it back"
            + (f" (a repair did not end; `mv {broken[-1]} {path.name}`, with its -wal and -shm)" if broken else "")
            + ", or remove it to start anew"
        )
    if lost := wal.lost(path):
        raise DataError(f"{path}: the completion store is torn (malformed): {lost}; {CURE}")


STORED = tuple(field.name for field in fields(Completion) if field.name != "key")


def as_stored(completion: Completion) -> str:
    """A completion's JSON, as it is stored and digested."""
    return json.dumps({name: getattr(completion, name) for name in STORED}, ensure_ascii=False)


def _keyed(done: Completion, key: str) -> Completion:
    """A completion with its key. (`dataclasses.replace` takes five times as long.)"""
    own = (done.text, done.finish, done.prompt_tokens, done.completion_tokens, done.served, done.error)
    return Completion(*own, key, done.cached_tokens, done.attempts)


def digest_of(completion: str) -> bytes:
    """The digest that stands beside a completion's JSON."""
    return hashlib.blake2b(completion.encode(), digest_size=8).digest()


def key_of(identity: str, asked: str) -> bytes:
    """The key of a request as it is stored, made anew; ValueError where that is not JSON of a request."""
    request = json.loads(asked)
    if not isinstance(request, dict) or request.keys() != ASKED:
        raise ValueError(f"a request has {', '.join(sorted(ASKED))}")
    return bytes.fromhex(of_value({"model": json.loads(identity), **request}))


ASKED = {"messages", "schema", "index", "seed"}
"""What a request has beside its model."""


def _create(path: Path) -> None:
    """A new store in one step: nobody ever sees half of one, and of two processes one is quicker."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
        new = Path(folder) / path.name
        fresh(new)
        new.chmod(path.parent.stat().st_mode & 0o666)
        try:
            os.link(new, path)
        except FileExistsError:
            return
        sync(path.parent)


def _folder(path: Path) -> None:
    """Make the store's folder, as open to others as the one that it is in (DVC's cache may be a group's)."""
    if not path.exists():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(path.parent.stat().st_mode & 0o7777)


def fresh(path: Path) -> None:
    """An empty store as a file, in WAL mode from its birth (to change the mode, a process would have to be alone)."""
    db = sqlite3.connect(path)
    try:
        db.execute("pragma journal_mode=wal").fetchone()
        db.executescript(SCHEMA + f"pragma user_version = {FORMAT};")
    finally:
        db.close()
