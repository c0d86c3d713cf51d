"""Batch jobs on disk: which requests went in which job and how far it is, so that a restart waits instead of paying again."""

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from drp.disk import sync
from drp.errors import DataError

FORMAT = 1
"""The version of `job.json`."""
KEPT = 86400.0
"""Seconds for which a job stays after its last answer was handed out: another process may wait for the same answers."""
ENDED = ("completed", "expired", "cancelled")
"""The statuses of a batch that was worked on and will not change any more. (One that `failed` never was: its job is removed.)"""
CURE = "remove its folder, and its requests are sent (and paid for) again"


@dataclass(slots=True)
class Job:
    """Requests that travel together. `keys` are their content keys, each with the attempt it is on (from 1).

    `file` is the id of the uploaded input; `sent` the time when creating the batch was begun; `batch` its id; `status` how it
    ended, set once its results are on disk; `given` the keys whose answers were handed out and stored, with the time.
    """

    folder: Path
    url: str
    made: float
    keys: dict[str, int]
    file: str | None = None
    sent: float | None = None
    batch: str | None = None
    status: str = ""
    given: dict[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The job's own name, which its batch carries as metadata."""
        return self.folder.name

    @property
    def ended(self) -> bool:
        """Whether its results are on disk."""
        return self.status in ENDED

    @property
    def input(self) -> Path:
        """The requests, one a line."""
        return self.folder / "input.jsonl"

    @property
    def output(self) -> Path:
        """The answers, where there are any."""
        return self.folder / "output.jsonl"

    @property
    def errors(self) -> Path:
        """The lines that failed, where there are any."""
        return self.folder / "errors.jsonl"

    def save(self) -> None:
        """Write `job.json` in one step, durably. The caller holds the job's lock."""
        plain = {"format": FORMAT, **asdict(self)}
        del plain["folder"]
        durable(self.folder / "job.json", [json.dumps(plain).encode()])


class Jobs:
    """A folder of jobs, shared by processes: a lock around choosing what to send, a lock for moving each job on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, tuple[tuple[int, int], Job]] = {}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Alone among the processes that make jobs; waits for its turn."""
        with (self.folder / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def own(self, name: str, *, wait: bool) -> Iterator[Job | None]:
        """The job as it is on disk now, to be moved on by nobody else; None where it is gone or (not `wait`) another's."""
        try:
            file = (self.folder / name / "lock").open("a")
        except FileNotFoundError:
            yield None
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield None
                return
            yield self.read(name)

    def read(self, name: str) -> Job | None:
        """A job by its name; None where it is gone, DataError where it cannot be read."""
        path = self.folder / name / "job.json"
        try:
            with path.open("rb") as file:
                seen = _seen(file)
                if name in self._known and self._known[name][0] == seen:
                    return self._known[name][1]
                plain = json.load(file)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise DataError(f"{path}: not a batch job ({error}); {CURE}") from error
        if plain.pop("format", None) != FORMAT:
            raise DataError(f"{path}: a batch job of another format than {FORMAT}; use the drp that made it, or {CURE}")
        job = Job(folder=path.parent, **plain)
        self._known[name] = (seen, job)
        return job

    def all(self) -> list[Job]:
        """Every job as it is on disk now, the newest first."""
        names = [entry.name for entry in os.scandir(self.folder) if entry.is_dir() and not entry.name.startswith(".")]
        found = [job for name in names if (job := self.read(name)) is not None]
        return sorted(found, key=lambda job: (job.made, job.id), reverse=True)

    def make(self, url: str, lines: Sequence[bytes], keys: Mapping[str, int]) -> Job:
        """A new job of these input lines, there in one step. The caller holds the lock of the folder.

        It is newer than all others, whatever the clock says: of jobs with one key the newest counts.
        """
        name, newest = uuid.uuid4().hex, max((job.made for job in self.all()), default=0.0)
        new = self.folder / f".new-{name}"
        new.mkdir()
        job = Job(new, url, max(time.time(), newest + 0.001), dict(keys))
        durable(job.input, lines)
        (new / "lock").touch()
        job.save()
        new.rename(self.folder / name)
        sync(self.folder)
        job.folder = self.folder / name
        return job

    def remove(self, job: Job) -> None:
        """Take a job away in one step: nobody ever sees half of one."""
        old = self.folder / f".old-{job.id}"
        try:
            job.folder.rename(old)
        except FileNotFoundError:
            return
        sync(self.folder)
        self._known.pop(job.id, None)
        shutil.rmtree(old, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what nobody waits for: halves that a kill left, and jobs whose answers were all handed out a while ago."""
        with self.lock():
            for path in [*self.folder.glob(".new-*"), *self.folder.glob(".old-*")]:
                shutil.rmtree(path, ignore_errors=True)
            newer: set[str] = set()
            for job in self.all():
                last = max(job.given.values(), default=job.made)
                if time.time() - last > KEPT and (job.file is None or all(k in job.given or k in newer for k in job.keys)):
                    self.remove(job)
                newer.update(job.keys)


class Lines:
    """The lines of JSONL files by their `custom_id`, read when asked for. Of lines with one id the one of highest rank counts."""

    def __init__(self, paths: Iterable[Path], known: Mapping[str, int]) -> None:
        self.places: dict[str, tuple[Path, int]] = {}
        self.ranks: dict[str, int] = {}
        self.unknown = self.twice = self.broken = 0
        for path in paths:
            if path.exists():
                self._scan(path, known)

    def _scan(self, path: Path, known: Mapping[str, int]) -> None:
        with path.open("rb") as file:
            place = 0
            for raw in file:
                here, place = place, place + len(raw)
                if not raw.strip():
                    continue
                line = _object(raw)
                key = str(line.get("custom_id"))
                if not line:
                    self.broken += 1
                elif key not in known:
                    self.unknown += 1
                else:
                    rank = _rank(line)
                    self.twice += key in self.ranks
                    if rank > self.ranks.get(key, -1):
                        self.places[key], self.ranks[key] = (path, here), rank

    @property
    def good(self) -> int:
        """How many lines hold an answer."""
        return sum(rank > 0 for rank in self.ranks.values())

    def get(self, key: str) -> dict[str, Any] | None:
        """The line of that id."""
        if key not in self.places:
            return None
        path, place = self.places[key]
        with path.open("rb") as file:
            file.seek(place)
            return _object(file.readline())


def _object(raw: bytes) -> dict[str, Any]:
    """A line's JSON object; empty where it is none."""
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return line if isinstance(line, dict) else {}


def _rank(line: dict[str, Any]) -> int:
    """1 for a line with a chat completion in it, else 0."""
    response = line.get("response")
    body = response.get("body") if isinstance(response, dict) and response.get("status_code") == 200 else None
    return int(isinstance(body, dict) and bool(body.get("choices")))


def durable(path: Path, pieces: Iterable[bytes]) -> None:
    """Put bytes at `path` in one step; they are on disk when this returns. DataError where there is no room for them."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync(path.parent)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written: {error}; make room, and run again: no batch is sent or paid for twice"
        ) from error


def _seen(file: IO[bytes]) -> tuple[int, int]:
    """By what a file is recognised as unchanged: it is only ever replaced, never rewritten."""
    stat = os.fstat(file.fileno())
    return stat.st_ino, stat.st_mtime_ns
