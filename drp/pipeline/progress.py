"""The progress of stages: what a running one says of itself, in a file that anyone may read, and as a line."""

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Literal

from drp.backends import Answer
from drp.errors import DrpError
from drp.processes import born
from drp.records import Kept, Outcome

RUN = "DRP_RUN"
"""The environment variable by which `drp run` tells its stages its own pid: they draw nothing, it draws them all."""
SECONDS = 1.0
"""Between two writings of the file."""
QUIET = 10.0
"""Between two lines in a log; and between two writings where nothing happens."""
RECENT = 30
"""Seconds over which the rate is taken: stored answers fly by, and say nothing of the ones that must be waited for."""
ENOUGH = 3.0
"""Seconds of work before a time left is guessed."""

State = Literal["running", "done", "failed", "interrupted", "killed"]


@dataclass
class Snapshot:
    """One stage at one moment; what the file holds. Times are seconds since 1970, rates are a second, of late.

    `total` and `done` count records of the input where the op makes several of each, `kept` and `dropped` those of the
    output. `answers` are the new ones (from a backend, in this run) and stored ones; `sent` are requests on their way.
    `spent` is what this run paid. `served` names the models that answered under another name than was asked for. `pid` and
    `born` are the process, `run` is the pid of the `drp run` that it belongs to.
    """

    recipe: str
    stage: str
    pid: int
    born: str | None
    run: str | None
    started: float
    updated: float = 0.0
    op: str = ""
    state: State = "running"
    exit_code: int | None = None
    total: int | None = None
    done: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    rate: float | None = None
    answer_rate: float | None = None
    answers: int = 0
    new: int = 0
    sent: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    spent: float = 0.0
    currency: str | None = None
    served: dict[str, list[str]] = field(default_factory=dict)
    last_answer: float | None = None
    message: str = ""

    @property
    def name(self) -> str:
        """`<recipe>/<stage>`."""
        return f"{self.recipe}/{self.stage}"

    def seconds(self, now: float) -> float:
        """How long it runs, or ran."""
        return max(0.0, (now if self.state == "running" else self.updated) - self.started)

    def left(self, now: float) -> float | None:
        """Seconds until it is done, as far as the recent rate can tell."""
        known = self.state == "running" and self.total and self.done and self.seconds(now) >= ENOUGH
        return (self.total - self.done) / self.rate if known and self.total and self.rate else None


def load(path: Path) -> Snapshot | None:
    """The snapshot in a file; None where there is none, or one of another version of drp."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return Snapshot(**{f.name: plain[f.name] for f in fields(Snapshot)})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def line(now: float, seen: Snapshot) -> str:
    """A snapshot in words, without its name."""
    of = f"/{seen.total}" if seen.total is not None else ""
    parts = [f"{seen.done}{of} records"] if seen.done or of else []
    dropped = sum(seen.dropped.values())
    parts += [f"{seen.kept} made of them"] if seen.kept + dropped != seen.done else []
    if seen.state == "running":
        parts += [f"{_rate(seen.rate)}/s"] if seen.rate and seen.done else []
        parts += [f"{span(left)} left"] if (left := seen.left(now)) is not None else []
    if seen.state == "running" and seen.message and not seen.done and not seen.answers:
        parts.append(seen.message)  # as of a training
    if seen.answers or seen.sent:
        rate = f", {_rate(seen.answer_rate)}/s" if seen.state == "running" and seen.answer_rate else ""
        new = min(seen.new, seen.answers)  # one that came is new a moment before it is handed on as an answer
        parts.append(f"{seen.answers} answers ({new} new, {seen.answers - new} stored{rate})")
    if seen.sent and seen.state == "running":
        parts.append(f"{seen.sent} sent")
    if seen.state == "running" and seen.last_answer and now - seen.last_answer >= QUIET:
        parts.append(f"last answer {span(now - seen.last_answer)} ago")
    parts += [f"{seen.retries} retries"] if seen.retries else []
    parts += [f"{seen.spent:.4g} {seen.currency or ''}".rstrip()] if seen.spent else []
    if dropped:
        parts.append(f"{dropped} dropped ({', '.join(f'{k} {v}' for k, v in _most(seen.dropped))})")
    return ", ".join([*parts, span(seen.seconds(now))])


def span(seconds: float) -> str:
    """Seconds in words: `0.4 s`, `38 s`, `2 min 05 s`, `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _rate(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.2g}"


def _most(dropped: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(dropped.items(), key=lambda item: (-item[1], item[0]))


class Progress:
    """Counts what a stage does; a thread of its own writes it down, so that counting costs nothing.

    As a context it says how the stage ended, by the exception that passes.
    """

    def __init__(self, folder: Path, recipe: str, stage: str) -> None:
        pid = os.getpid()
        self.seen = Snapshot(recipe, stage, pid, born(pid), os.environ.get(RUN), time.time())
        self.path = folder / f"{recipe}.{stage}.json"
        self._several, self._parent = False, ""
        self._live = sys.stderr.isatty() and not self.seen.run
        self._drawn, self._written = time.monotonic(), (-1, -1, -1, "")
        self._past: deque[tuple[float, int, int]] = deque([(time.monotonic(), 0, 0)], maxlen=int(RECENT / SECONDS))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    # -- counting ----------------------------------------------------------------------------------------------------------

    def expect(self, op: str, total: int | None, several: bool) -> None:
        """What it will do: how many records there are to go through, and whether the op makes several of each."""
        self.seen.op, self.seen.total, self._several = op, total, several

    def step(self, outcome: Outcome) -> None:
        """One outcome more."""
        if isinstance(outcome, Kept):
            self.seen.kept += 1
        else:
            self.seen.dropped[outcome.reason] = self.seen.dropped.get(outcome.reason, 0) + 1
        if self._several:  # ids `<record>/<nnn>`, in the order of the records
            parent = str(outcome.record["id"]).rpartition("/")[0]
            if parent == self._parent:
                return
            self._parent = parent
        self.seen.done += 1

    def sending(self) -> None:
        """One request more is on its way."""
        self.seen.sent += 1

    def came(self, burst: Sequence[Answer]) -> None:
        """Answers from a backend, to requests that were on their way."""
        self.seen.sent -= len(burst)
        self.seen.new += len(burst)
        for answer in burst:
            self.seen.retries += max(0, answer.completion.attempts - 1)

    def answered(self, burst: Sequence[Answer], asked: str) -> None:
        """Answers to a model asked for by this name, stored ones too."""
        if not burst:
            return
        self.seen.answers += len(burst)
        self.seen.last_answer = time.time()
        for answer in burst:
            done = answer.completion
            self.seen.prompt_tokens += done.prompt_tokens
            self.seen.completion_tokens += done.completion_tokens
            if done.served and done.served != asked and done.served not in self.seen.served.get(asked, ()):
                self.seen.served[asked] = [*self.seen.served.get(asked, ()), done.served]
                self.say(f"asked {asked}, served by {done.served}")

    def paid(self, amount: float, currency: str | None = None) -> None:
        """Money for an answer."""
        self.seen.spent += amount
        self.seen.currency = currency or self.seen.currency

    # -- telling -----------------------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """A line for the person who watches."""
        self.seen.message = text
        self._print(f"{self.seen.name}: {text}\n")

    def _print(self, text: str) -> None:
        """Past Python's buffers, whose locks a forked process would inherit from the thread."""
        with suppress(OSError):  # nobody listens any more: no reason to lose the work
            os.write(2, (f"\r\033[K{text}" if self._live else text).encode("utf-8", "replace"))

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS):
            now = time.monotonic()
            state = (self.seen.done, self.seen.answers, self.seen.sent, self.seen.message)
            then, done, answers = self._past[0]
            self._past.append((now, self.seen.done, self.seen.answers))
            self.seen.rate, self.seen.answer_rate = (state[0] - done) / (now - then), (state[1] - answers) / (now - then)
            if state != self._written or time.time() - self.seen.updated >= QUIET:
                self._written = state
                self._write()
            if self.seen.run is None and now - self._drawn >= (0 if self._live else QUIET):
                self._drawn = now
                text = f"{self.seen.name}: {line(time.time(), self.seen)}"
                self._print(text[: _width()] if self._live else f"{text}\n")

    def _write(self) -> None:
        """In one step; not made durable, for after a crash of the machine nobody asks how far it was."""
        self.seen.updated = time.time()
        plain = {**vars(self.seen), "dropped": dict(self.seen.dropped), "served": dict(self.seen.served)}
        part = self.path.with_name(self.path.name + ".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(plain, ensure_ascii=False), encoding="utf-8")
            os.replace(part, self.path)
        except OSError as error:  # what is worked on matters more than the news of it
            self._print(f"{self.seen.name}: no progress can be written: {error}\n")

    def __enter__(self) -> "Progress":
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self.seen.sent = 0
        self.seen.state, self.seen.exit_code = _end(error)
        if error is not None and str(error):
            self.seen.message = str(error).splitlines()[0] if self.seen.state == "failed" else ""
        seconds = max(time.time() - self.seen.started, 1e-9)
        self.seen.rate, self.seen.answer_rate = self.seen.done / seconds, self.seen.answers / seconds
        self._write()
        self._print(f"{self.seen.name}: {self.seen.state}: {line(time.time(), self.seen)}\n")


def _end(error: BaseException | None) -> tuple[State, int]:
    if error is None:
        return "done", 0
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return "interrupted", error.code
    return "failed", error.exit_code if isinstance(error, DrpError) else 1


def _width() -> int:
    try:
        return os.get_terminal_size(2).columns - 1
    except OSError:
        return 79
