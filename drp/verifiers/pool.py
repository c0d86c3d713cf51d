"""The pool: judges many cases at once in worker processes, in order, each within a time limit.

Processes and not threads, because Math-Verify refuses threads and because only a process can be stopped in the middle of
a computation. They are plain child processes (no fork of a parent that may hold torch's threads).
"""

import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from drp import fence
from drp.errors import ConfigError, DataError, MissingPackage, UndeclaredRead
from drp.verifiers import Case, Verdict, verdict_of
from drp.verifiers.worker import serve

T = TypeVar("T")

BATCH = 32
"""Cases handed to a worker at once."""

AHEAD = 4
"""Batches per worker that are read ahead of the verdict that is due next."""

START = 120.0
"""Seconds that a worker may take to import its verifier."""

FAILURES = {kind.__name__: kind for kind in (ConfigError, MissingPackage, UndeclaredRead)}
"""What a worker may fail with, by name."""

_LAUNCH = f"from {serve.__module__} import {serve.__name__}; {serve.__name__}()"


def judged(
    pairs: Iterable[tuple[T, Case]], *, verifier: str = "math", timeout: float = 5.0, workers: int | None = None
) -> Iterator[tuple[T, Verdict]]:
    """Each item with the verdict on its case, in order; at most `timeout` seconds are spent on one case.

    Workers start when the first case needs them and end with the iteration, however it ends. A worker that dies is
    replaced; a case over which two workers were killed is a `timeout`. ConfigError where there is no such verifier,
    DataError where it raises.
    """
    crew = workers or os.cpu_count() or 1
    source = iter(pairs)
    line: deque[tuple[T, _Slot]] = deque()
    more = True
    with _Pool(verifier, timeout, crew) as pool:
        while more or line:
            while more and len(line) < crew * BATCH * AHEAD:
                pair = next(source, None)
                more = pair is not None
                if pair is not None:
                    line.append((pair[0], pool.submit(pair[1])))
            while line and (verdict := line[0][1].verdict):
                yield line.popleft()[0], verdict
            if line:
                pool.step()


class _Slot:
    """A case and, later, its verdict; `deaths` counts the workers that died over it."""

    def __init__(self, case: Case) -> None:
        self.case, self.deaths = case, 0
        self.verdict: Verdict | None = None if case.reply is not None else verdict_of(case, None, False)


class _Worker:
    """A child process; `slots` are the cases it was given and has not answered, `deadline` when it must have said something."""

    def __init__(self, verifier: str) -> None:
        path = os.pathsep.join(p or os.getcwd() for p in sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, verifier], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env={**os.environ, **fence.passed_on(), "PYTHONPATH": path},
        )  # fmt: skip
        assert self.process.stdin
        assert self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.slots: deque[_Slot] = deque()
        self.ready = False
        self.deadline = time.monotonic() + START
        self._rest = b""

    def give(self, slots: list[_Slot], timeout: float) -> None:
        """Hand it a batch; BrokenPipeError where it is dead."""
        self.slots.extend(slots)
        self.deadline = time.monotonic() + timeout
        batch = memoryview(json.dumps([[s.case.reply, s.case.answer] for s in slots]).encode() + b"\n")
        while batch:
            batch = batch[self.stdin.write(batch) or 0 :]

    def hear(self) -> list[Any] | None:
        """The messages that have come in; None where it has ended."""
        chunk = os.read(self.stdout.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [json.loads(line) for line in lines] if chunk else None

    def status(self) -> int:
        """The exit status of one that has closed its end: negative where a signal ended it."""
        return self.process.wait(timeout=START)

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self.process.kill()
        self.stdin.close()
        self.stdout.close()
        self.process.wait()


class _Pool:
    """The workers and the cases that wait for one."""

    def __init__(self, verifier: str, timeout: float, crew: int) -> None:
        self.verifier, self.timeout, self.crew = verifier, timeout, crew
        self.waiting: deque[_Slot] = deque()
        self.workers: list[_Worker] = []
        self.selector = selectors.DefaultSelector()

    def submit(self, case: Case) -> _Slot:
        """Queue a case; its slot will hold the verdict."""
        slot = _Slot(case)
        if slot.verdict is None:
            self.waiting.append(slot)
            if len(self.waiting) % BATCH == 0:
                self._feed()
        return slot

    def step(self) -> None:
        """Wait until a worker says something, ends, or is late."""
        self._feed()
        soon = min((w.deadline for w in self.workers if w.slots or not w.ready), default=time.monotonic())
        for key, _ in self.selector.select(max(0.0, soon - time.monotonic())):
            self._attend(key.data)
        for worker in [w for w in self.workers if (w.slots or not w.ready) and w.deadline < time.monotonic()]:
            self._expire(worker)

    def _feed(self) -> None:
        for worker in list(self.workers):
            if self.waiting and worker.ready and not worker.slots:
                self._give(worker)
        starting = sum(not w.ready for w in self.workers)
        if len(self.workers) < self.crew and len(self.waiting) > starting * BATCH:
            worker = _Worker(self.verifier)
            self.workers.append(worker)
            self.selector.register(worker.stdout, selectors.EVENT_READ, worker)

    def _give(self, worker: _Worker) -> None:
        batch = [self.waiting.popleft() for _ in range(min(BATCH, len(self.waiting)))]
        try:
            worker.give(batch, self.timeout)
        except BrokenPipeError:
            worker.slots.clear()
            self.waiting.extendleft(reversed(batch))
            self._remove(worker)

    def _attend(self, worker: _Worker) -> None:
        messages = worker.hear()
        if messages is None:
            self._bury(worker)
        for message in messages or ():
            if isinstance(message, dict):
                self._hello(worker, message)
            else:
                slot = worker.slots.popleft()
                slot.verdict = verdict_of(slot.case, *message)
            worker.deadline = time.monotonic() + self.timeout

    def _hello(self, worker: _Worker, message: dict[str, Any]) -> None:
        if "failed" in message:
            raise FAILURES.get(message["kind"], ConfigError)(message["failed"])
        worker.ready = True

    def _bury(self, worker: _Worker) -> None:
        """A worker has died: try the case it was at once more, elsewhere; DataError where its verifier raised."""
        status = worker.status()
        self._remove(worker)
        if not worker.ready:
            raise ConfigError(f"verifier {self.verifier!r}: its worker process ended at the start (status {status}); see above")
        if worker.slots and status >= 0:
            case = worker.slots[0].case
            raise DataError(f"verifier {self.verifier!r} raised (see above) on the reply {case.reply!r}, gold {case.answer!r}")
        if worker.slots:
            worker.slots[0].deaths += 1
            if worker.slots[0].deaths > 1:
                worker.slots.popleft().verdict = Verdict(None, False, "timeout")
        self.waiting.extendleft(reversed(worker.slots))

    def _expire(self, worker: _Worker) -> None:
        """A worker is late: stop it; the case it was at is a time-out, the others go to another."""
        self._remove(worker)
        if not worker.ready:
            raise ConfigError(f"verifier {self.verifier!r}: its worker process did not start within {START:.0f} s")
        worker.slots.popleft().verdict = Verdict(None, False, "timeout")
        self.waiting.extendleft(reversed(worker.slots))

    def _remove(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        self.selector.unregister(worker.stdout)
        worker.end()

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self.workers):
            self._remove(worker)
        self.selector.close()
