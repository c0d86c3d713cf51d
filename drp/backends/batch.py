"""OpenAI's Batch API: all asks that are open become jobs at half the price, which outlive the process that sent them."""

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from drp.backends import Answer, Ask, pull
from drp.errors import BackendError, ConfigError, MissingPackage
from drp.models import Completion, Model, Request
from drp.remote.address import secret_of, url_of
from drp.remote.batches import ROUTE, Api, Gone, NotMade, Passing, words_of
from drp.remote.jobs import ENDED, Job, Jobs, Lines
from drp.remote.wire import NO_MONEY, Garbled, Manner, body, read, spent

if TYPE_CHECKING:
    import openai.types

MOST_LINES, MOST_BYTES = 50_000, 200_000_000
"""What one input file may hold (https://platform.openai.com/docs/api-reference/batch/create)."""
PATIENCE = 120
"""So many looks in a row without an answer from the server end the run (its jobs go on)."""
LATE = 20
"""So many looks are given to a result file that a finished batch should have and has not: it is sometimes late."""
SETTLE = 10.0
"""Seconds in which a batch may still turn up whose creation was begun and not answered; only then is it created again."""
LONGEST_WAIT = 3600.0
"""The most seconds between two tries where the queue of the organisation is full."""
LEAST = 20
"""A batch of so many requests that were all refused ends the run: nobody wants all records dropped for one wrong setting."""

log = logging.getLogger("drp.batch")


def connect(model: Model, folder: Path | None = None) -> "Batch":
    """The Batch API at the endpoint's `base_url` (OpenAI's own where there is none). `folder` is where its jobs are kept.

    ConfigError for a malformed URL, a missing key variable or no folder, MissingPackage without the package openai. Nothing
    is sent.
    """
    try:
        import openai  # noqa: F401
    except ImportError as error:
        raise MissingPackage("backend batch needs the package openai; pip install 'drp[openai]'") from error
    if folder is None:
        raise ConfigError("backend batch needs a folder that outlives the run, for the jobs that are under way")
    return Batch(model, Api(model, url_of(model), secret_of(model)), Jobs(folder))


class Batch:
    """Answers by batch jobs. It learns a server's manner once, for all that follows."""

    def __init__(self, model: Model, api: Api, jobs: Jobs) -> None:
        self.model, self.api, self.jobs = model, api, jobs
        # To learn costs a whole job's time; at OpenAI every model takes this name of the limit, and the newer ones no other.
        self.manner = Manner() if model.endpoint.base_url else Manner(limit="max_completion_tokens")

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """Answer every ask. A job is sent when no more asks are to be had, or when it is full; BackendError where no job can be.

        That the generator is resumed after a burst says that the burst is stored: only then are its answers let go of.
        """
        self.jobs.tidy()
        run = _Run(self.model, self.api, self.jobs, self.manner)
        ended = False
        while True:
            pulled: list[Ask] = []
            if not ended:
                pulled, ended = pull(asks, MOST_LINES)
                run.want(pulled)
            lot = run.sort()
            if lot.ready or (pulled and not ended):  # what comes of it may be more asks, and they may fill the job
                yield [Answer(ticket, done.completion) for done in lot.ready for ticket in run.tickets(done.key)]
                run.given(lot.ready)
            elif lot.fatal:
                run.give_up(lot.fatal)
            elif lot.unsent and not (run.full and lot.pending):
                run.send(lot.unsent)
            elif lot.pending:
                run.look(lot.pending)
            elif ended:
                return
            else:
                yield ()


class _Again(NamedTuple):
    """A request is to be sent again; `counted` as another attempt."""

    reason: str
    counted: bool = True


class _Fatal(NamedTuple):
    """A request has no answer for a reason that concerns the whole run."""

    key: str
    job: str
    reason: str


class _Full(Exception):
    """The queue of the organisation takes no batch of this size now."""

    def __init__(self, text: str, size: int) -> None:
        super().__init__(text)
        self.size = size


class _Next(NamedTuple):
    """The attempt that a request is to be sent for, and the job that was the last to carry it."""

    attempt: int
    after: str | None


class _Done(NamedTuple):
    """The completion for a key, and the job that it came with."""

    key: str
    job: str | None
    completion: Completion


@dataclass(slots=True)
class _Wanted:
    """A request, and the tickets that wait for its answer."""

    request: Request
    tickets: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Lot:
    """All wanted requests, by what is to be done with them."""

    ready: list[_Done] = field(default_factory=list)
    unsent: dict[str, _Next] = field(default_factory=dict)
    pending: dict[str, Job] = field(default_factory=dict)
    fatal: list[_Fatal] = field(default_factory=list)


class _Run:
    """One run of asks: which requests are wanted, and what the jobs on disk say of each."""

    def __init__(self, model: Model, api: Api, jobs: Jobs, manner: Manner) -> None:
        self.endpoint, self.api, self.jobs, self.manner = model.endpoint, api, jobs, manner
        self.began = time.time()
        self.full = False
        """The organisation's queue took no more: a job is sent when one of ours has ended."""
        self._wanted: dict[str, _Wanted] = {}
        self._had: set[str] = set()  # keys that were answered in this run: asked again, they are sent again
        self._known: list[Job] = []
        self._lines: dict[str, Lines] = {}
        self._unsendable: dict[str, Completion] = {}
        self._most, self._refusals, self._alone = MOST_LINES, 0, 0
        self._mute = 0  # looks in a row without an answer
        self._late: Counter[str] = Counter()
        self._sought: dict[str, float] = {}
        self._told: set[str] = set()

    def want(self, asks: Sequence[Ask]) -> None:
        """Take asks in."""
        for ticket, request in asks:
            self._wanted.setdefault(request.key(), _Wanted(request)).tickets.append(ticket)

    def tickets(self, key: str) -> list[int]:
        """Who waits for the answer."""
        return self._wanted[key].tickets

    # -- what the jobs say -------------------------------------------------------------------------------------------------

    def sort(self) -> _Lot:
        """Look every wanted request up in the jobs on disk."""
        lot = _Lot()
        self._known = self.jobs.all()
        for key, wanted in self._wanted.items():
            if key in self._unsendable:
                lot.ready.append(_Done(key, None, self._unsendable[key]))
                continue
            job = self._owing(key)
            if job is None:
                lot.unsent[key] = _Next(1, None)
            elif not job.ended:
                lot.pending[job.id] = job
            else:
                self._settle(lot, job, key, wanted.request)
        return lot

    def _owing(self, key: str) -> Job | None:
        """The job that has, or will have, the answer: the newest with that key, unless the answer was handed out before.

        (One that another process was handed since this run began is an answer for us too: it was not stored when we asked.)
        """
        for job in self._known:
            if key in job.keys:
                when = job.given.get(key)
                if when is not None and (key in self._had or when < self.began):
                    return None
                if not job.ended and job.url != self.api.place:
                    self._tell(f"{job.folder}: this job went to {job.url}; its requests are sent anew to {self.api.place}")
                    return None
                return job
        return None

    def _settle(self, lot: _Lot, job: Job, key: str, request: Request) -> None:
        """Put a key whose job has ended where it belongs."""
        attempt, most = job.keys[key], self.endpoint.attempts
        verdict = self._judge(job, key, request)
        if isinstance(verdict, _Fatal):
            lot.fatal.append(verdict)
        elif isinstance(verdict, Completion):
            lot.ready.append(_Done(key, job.id, replace(verdict, attempts=attempt)))
        elif not verdict.counted:
            lot.unsent[key] = _Next(attempt, job.id)
        elif attempt < most:
            lot.unsent[key] = _Next(attempt + 1, job.id)
        else:
            error = f"{verdict.reason} (attempt {attempt} of {most})"
            lot.ready.append(_Done(key, job.id, Completion("", "error", error=error, attempts=attempt)))

    def _judge(self, job: Job, key: str, request: Request) -> Completion | _Again | _Fatal:
        """What a job's result files say of a request."""
        line = self._results(job).get(key) or {}
        response, error = line.get("response"), line.get("error")
        if isinstance(response, dict):
            return self._response(job, key, request, response)
        code = error.get("code") if isinstance(error, dict) else None
        if job.status == "cancelled" or code == "batch_cancelled":
            cure = "its answers are kept; run again to send the other requests anew"
            return _Fatal(key, job.id, f"batch {job.batch} was cancelled; {cure}")
        if isinstance(error, dict):
            return _Again(f"{code or 'error'}: {self.api.clean(str(error.get('message') or 'no words'))}")
        return _Again(f"batch {job.batch} ({job.status}) has no whole line for it")

    def _response(self, job: Job, key: str, request: Request, response: dict[str, Any]) -> Completion | _Again | _Fatal:
        """What a response in a result line is worth."""
        status, reply = response.get("status_code"), response.get("body")
        if status == 200:
            try:
                return read(json.dumps(reply, ensure_ascii=False), request)
            except Garbled as error:
                return _Again(self.api.clean(str(error)))
        words = self.api.clean(words_of(reply))
        said = f"{status}: {words}"
        if spent(status, words_of(reply)):
            return _Fatal(key, job.id, f"{said}; {NO_MONEY}: what was answered is kept")
        if not isinstance(status, int) or status in (401, 403, 408, 409, 429) or status >= 500:
            return _Again(said)
        if status in (400, 422) and self.manner.learn(words, self._asked(job, key)):
            return _Again(said, counted=False)
        if len(job.keys) >= LEAST and not self._results(job).good:
            return _Fatal(key, job.id, f"all {len(job.keys)} requests of batch {job.batch} failed; one of them: {said}")
        return Completion("", "error", error=said)

    def _results(self, job: Job) -> Lines:
        """The lines of a job's result files."""
        if job.id not in self._lines:
            found = self._lines[job.id] = Lines((job.output, job.errors), job.keys)
            for count, what in (
                (found.unknown, "whose custom_id is none of ours, ignored"),
                (found.twice, "whose custom_id was there before; a good one is taken"),
                (found.broken, "that are not JSON; what they answered is sent again"),
            ):
                if count:
                    self._tell(f"{job.folder}: batch {job.batch}: result lines {what}: {count}")
        return self._lines[job.id]

    def _asked(self, job: Job, key: str) -> dict[str, Any]:
        """The body that a request was asked with in a job."""
        name = f"{job.id}/input"
        if name not in self._lines:
            self._lines[name] = Lines((job.input,), job.keys)
        asked: dict[str, Any] = (self._lines[name].get(key) or {}).get("body") or {}
        return asked

    # -- handing out -------------------------------------------------------------------------------------------------------

    def given(self, ready: Sequence[_Done]) -> None:
        """The answers were handed out and stored: write it down, and want them no more."""
        for done in ready:
            del self._wanted[done.key]
            self._unsendable.pop(done.key, None)
        self._let_go((done.job, done.key) for done in ready)

    def give_up(self, fatal: Sequence[_Fatal]) -> None:
        """Raise what concerns the whole run; its requests are sent anew when they are asked for the next time."""
        self._let_go((item.job, item.key) for item in fatal)
        others = "" if len(fatal) == 1 else f" (so for {len(fatal)} requests)"
        raise BackendError(f"{self.api.place}: {fatal[0].reason}{others}")

    def _let_go(self, pairs: Iterator[tuple[str | None, str]]) -> None:
        now, by_job = time.time(), dict[str, list[str]]()
        for name, key in pairs:
            self._had.add(key)
            if name:
                by_job.setdefault(name, []).append(key)
        for name, keys in by_job.items():
            with self.jobs.own(name, wait=True) as job:
                if job:
                    job.given.update(dict.fromkeys(keys, now))
                    job.save()
        for known in self._known:
            loaded = {known.id, f"{known.id}/input"} & self._lines.keys()
            if loaded and all(key in self._had or key in known.given for key in known.keys):
                for name in loaded:  # nobody needs its lines any more; they are read again should it be otherwise
                    del self._lines[name]

    # -- sending -----------------------------------------------------------------------------------------------------------

    def send(self, unsent: Mapping[str, _Next]) -> None:
        """Make jobs of what no other process has meanwhile made one of; the next look sends them."""
        with self.jobs.lock():
            self._known = self.jobs.all()
            lines: list[bytes] = []
            attempts: dict[str, int] = {}
            size = 0
            for key, (attempt, after) in unsent.items():
                job = self._owing(key)
                if job is not None and job.id != after:
                    continue
                line = self._line(key)
                if line is None:
                    continue
                if lines and (len(lines) >= self._most or size + len(line) > MOST_BYTES):
                    self.jobs.make(self.api.place, lines, attempts)
                    lines, attempts, size = [], {}, 0
                lines.append(line)
                attempts[key] = attempt
                size += len(line)
            if lines:
                self.jobs.make(self.api.place, lines, attempts)

    def _line(self, key: str) -> bytes | None:
        """The input line of a request; None (and an answer that says so) where no file could hold it."""
        plain = {"custom_id": key, "method": "POST", "url": ROUTE, "body": body(self._wanted[key].request, self.manner)}
        line = json.dumps(plain).encode() + b"\n"  # ASCII: no character in it could be taken for the end of a line
        if len(line) <= MOST_BYTES:
            return line
        error = f"the request is {len(line)} bytes long; an input file of a batch holds {MOST_BYTES}"
        self._unsendable[key] = Completion("", "error", error=error)
        return None

    # -- looking -----------------------------------------------------------------------------------------------------------

    def look(self, pending: Mapping[str, Job]) -> None:
        """Move every job on that is waited for; sleep until the next look where none has ended."""
        ended, going = False, False
        trouble: Passing | None = None
        full: _Full | None = None
        for waited in sorted(pending.values(), key=lambda job: job.made):
            with self.jobs.own(waited.id, wait=False) as job:
                try:
                    moved = job is not None and (job.ended or self._move(job))  # None: in another process's hands, or gone
                except Passing as error:
                    trouble, moved = error, False
                except _Full as error:
                    full = error
                    continue
                ended, going = ended or moved, going or not moved
        self._mute = self._mute + 1 if trouble else 0
        if trouble and self._mute >= PATIENCE:
            safe = f"its jobs are safe in {self.jobs.folder}: run again, and they are waited for"
            raise BackendError(f"{self.api.place}: the last {PATIENCE} looks failed: {trouble}; {safe}") from trouble
        if full:
            self._wait_for_room(full, going=going)
        if not ended:
            time.sleep(self.endpoint.poll)

    def _move(self, job: Job) -> bool:
        """One step of a job, written down as soon as it is made; whether it has ended."""
        if job.file is None:
            job.file = self.api.upload(job)
            job.save()
        if job.batch is None:
            self._create(job)
            return False
        batch = self.api.retrieve(job)
        if batch.status == "failed":
            raise self._failed(job, _causes(batch))
        if batch.status not in ENDED or not self._collect(job, batch):
            return False
        job.status = batch.status
        job.save()
        self.full, self._refusals, self._alone = False, 0, 0
        self._most = min(MOST_LINES, 2 * self._most)
        return True

    def _create(self, job: Job) -> None:
        """Create the batch of a job, unless that was begun before (by a process that was killed, or got no answer) and done."""
        if job.sent is not None:
            found = self.api.find(job)
            if found is not None:
                job.batch = found
                job.save()
                return
            if time.time() - self._sought.setdefault(job.id, time.time()) < SETTLE:
                return
            del self._sought[job.id]
        job.sent = time.time()
        job.save()
        try:
            job.batch = self.api.create(job)
        except NotMade as error:
            job.sent = None
            job.file = job.file if error.passing else None
            job.save()
            if error.passing:
                raise Passing(str(error)) from error
            raise BackendError(f"{self.api.place}: the batch is refused: {error}") from error
        job.save()

    def _collect(self, job: Job, batch: "openai.types.Batch") -> bool:
        """Bring a batch's result files home; whether all are that it should have."""
        counts = batch.request_counts
        if counts and counts.completed and not batch.output_file_id and self._still_late(job):
            return False
        for name, path in ((batch.output_file_id, job.output), (batch.error_file_id, job.errors)):
            if not name or path.exists():
                continue
            try:
                self.api.download(name, path)
            except Gone as error:
                if self._still_late(job):
                    return False
                self._tell(f"{job.folder}: batch {job.batch}: {error}; what it answered is sent again")
        return True

    def _still_late(self, job: Job) -> bool:
        """Whether a missing result file is worth another look."""
        self._late[job.id] += 1
        return self._late[job.id] < LATE

    def _failed(self, job: Job, causes: Sequence[Mapping[str, Any]]) -> "_Full | BackendError":
        """What to raise for a batch that was refused as a whole, which costs nothing: its requests are free again."""
        self.jobs.remove(job)
        words = self.api.clean("; ".join(_cause(cause) for cause in causes[:3]) or "without words")
        if any(cause.get("code") == "token_limit_exceeded" for cause in causes):
            return _Full(words, len(job.keys))
        more = f" (and {len(causes) - 3} more)" if len(causes) > 3 else ""
        return BackendError(f"{self.api.place}: batch {job.batch} of {len(job.keys)} requests is refused: {words}{more}")

    def _wait_for_room(self, full: "_Full", *, going: bool) -> None:
        """Until one of our jobs has ended; where none is going, for ever longer, to come back with smaller ones."""
        self.full = going
        if going:
            return
        self._most = max(1, full.size // 2)
        self._alone += full.size == 1
        if self._alone >= self.endpoint.attempts:
            cure = "wait until the organisation's other batches are done, and run again: nothing is lost"
            raise BackendError(f"{self.api.place}: {full}; {cure}")
        self._tell(f"{self.api.place}: {full}; trying again with at most {self._most} requests a batch")
        time.sleep(min(self.endpoint.poll * 2.0**self._refusals, LONGEST_WAIT))
        self._refusals += 1

    def _tell(self, text: str) -> None:
        """Say something once."""
        if text not in self._told:
            self._told.add(text)
            log.warning(text)


def _causes(batch: "openai.types.Batch") -> list[dict[str, Any]]:
    """Why a batch was refused."""
    return [cause.model_dump() for cause in (batch.errors.data if batch.errors else None) or []]


def _cause(cause: Mapping[str, Any]) -> str:
    line = f"line {cause['line']}: " if cause.get("line") else ""
    return f"{line}{cause.get('message') or 'no words'}" + (f" ({cause['code']})" if cause.get("code") else "")
