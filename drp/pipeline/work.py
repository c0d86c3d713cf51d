"""The work of one running stage: where its op writes, asks and reports progress."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drp.asking import Asking
from drp.backends import Answer, Ask, Backend, connect
from drp.models import Model
from drp.op import Dialogue
from drp.records import Outcome, Record
from drp.store import Owner, Store
from drp.stored import Stored

WINDOW = 1024
"""The least number of records that are open or wait for their turn: one slow answer holds up no more than this."""


class Lazy:
    """A backend that is connected at the first real ask: a stage whose answers are all stored loads no model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._backend: Backend | None = None

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """As the backend of the model."""
        for ask in asks:
            if ask is None:
                yield ()
                continue
            self._backend = self._backend or connect(self.model)
            yield from self._backend.complete(_again(ask, asks))
            return


def _again(first: Ask, rest: Iterator[Ask | None]) -> Iterator[Ask | None]:
    yield first
    yield from rest


class Usage:
    """A backend around a backend that adds up what the answers cost, stored ones too: the same on every replay."""

    def __init__(self, inner: Backend, totals: Counter[str], served: set[str], answered: Callable[[], None]) -> None:
        self.inner, self.totals, self.served, self.answered = inner, totals, served, answered

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """As the backend below."""
        for burst in self.inner.complete(asks):
            for answer in burst:
                done = answer.completion
                self.totals["completions"] += 1
                self.totals["prompt_tokens"] += done.prompt_tokens
                self.totals["completion_tokens"] += done.completion_tokens
                self.totals[f"finish_{done.finish}"] += 1
                if done.served:
                    self.served.add(done.served)
                self.answered()
            yield burst


class Progress:
    """Lines on standard error: rewritten in place on a terminal, one every ten seconds in a log."""

    def __init__(self, name: str, total: int | None) -> None:
        self.name, self.total = name, total
        self.done, self.dropped, self.answers = 0, 0, 0
        self.began = self._last = time.monotonic()
        self._live = sys.stderr.isatty()

    def step(self, dropped: bool) -> None:
        """One outcome more."""
        self.done += 1
        self.dropped += dropped
        self._tell()

    def answer(self) -> None:
        """One completion more; records follow in their own order."""
        self.answers += 1
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._last >= (0.5 if self._live else 10):
            self._last = now
            self.say(self._state(now))

    def _state(self, now: float) -> str:
        seconds = max(now - self.began, 1e-9)
        rate = self.done / seconds
        asked = f", {self.answers} completions ({self.answers / seconds:.1f}/s)" if self.answers else ""
        of = f"/{self.total}" if self.total else ""
        known = self.total and self.done * 20 >= self.total > self.done  # a twentieth tells enough to guess the rest by
        left = f", {((self.total or 0) - self.done) / rate:.0f} s left" if known else ""
        return f"{self.done}{of} records, {self.dropped} dropped{asked}{left}"

    def say(self, text: str) -> None:
        """A line for the person who watches."""
        sys.stderr.write(f"\r\033[K{self.name}: {text}" if self._live else f"{self.name}: {text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """The last line."""
        counts = f"{self.done} records, {self.dropped} dropped, " if self.done else ""
        self.say(f"{counts}{time.monotonic() - self.began:.1f} s")
        if self._live:
            sys.stderr.write("\n")


class StageWork:
    """What `drp.op.Work` promises, for one stage."""

    def __init__(self, out: Path, resume: Path, store: Path, progress: Progress, owner: Owner) -> None:
        self._out, self._resume, self._store_path, self._progress, self._owner = out, resume, store, progress, owner
        self._store: Store | None = None
        self._last: tuple[Model, Stored] | None = None
        self._hits = self._misses = 0
        self.totals: Counter[str] = Counter()
        self.served: set[str] = set()

    @property
    def out(self) -> Path:
        """The folder of the model that is made, there from the first use."""
        self._out.mkdir(parents=True, exist_ok=True)
        return self._out

    @property
    def resume(self) -> Path:
        """The folder that survives a kill."""
        self._resume.mkdir(parents=True, exist_ok=True)
        return self._resume

    def ask(self, model: Model, records: Iterable[Record], dialogue: Dialogue) -> Iterator[Outcome]:
        """Hold the dialogue over every record; the model of the last call stays loaded."""
        if self._store is None:
            self._store = Store(self._store_path)
            self._store.begin(self._owner)
        if self._last is None or self._last[0] != model:
            self._let_go()
            self._last = (model, Stored(Lazy(model), self._store, self._owner))
        endpoint = model.endpoint
        window = max(WINDOW, 4 * max(endpoint.concurrency, endpoint.batch))
        backend = Usage(self._last[1], self.totals, self.served, self._progress.answer)
        return Asking(backend, window).run(records, dialogue)

    def say(self, text: str) -> None:
        """A line of progress."""
        self._progress.say(text)

    def usage(self) -> dict[str, Any]:
        """What was asked, stored answers included: completions, tokens, finishes, served models."""
        return {**dict(sorted(self.totals.items())), "served": sorted(self.served)}

    def _let_go(self) -> None:
        """Drop the model that was asked last: of some engines (vLLM's) there is one to a process."""
        if self._last:
            self._hits += self._last[1].hits
            self._misses += self._last[1].misses
        self._last = None

    def close(self) -> None:
        """Let go of the model and the store."""
        self._let_go()
        if self._store:
            self._store.close()
            self._progress.say(f"{self._hits} completions from the store, {self._misses} new")


def model_identity(model: Model) -> dict[str, Any]:
    """For the manifest: what the model is, and its sampling."""
    return {**model.identity(), "sampling": asdict(model.sampling)}


def write_json(path: Path, data: Any) -> None:
    """Stable JSON with a newline at its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
