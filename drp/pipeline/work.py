"""The work of one running stage: where its op writes, asks and reports progress."""

import json
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from drp.asking import Asking
from drp.backends import Answer, Ask, Backend, connect
from drp.models import Completion, Model, Request
from drp.money.ledger import Limit, settle
from drp.money.prices import Price
from drp.money.purse import Purse
from drp.op import Dialogue, Work
from drp.pipeline.pace import Stopwatch
from drp.pipeline.progress import Progress
from drp.records import Outcome, Record
from drp.store.completions import Owner, Store
from drp.store.stored import Stored

WINDOW = 1024
"""The least number of records that are open or wait for their turn: one slow answer holds up no more than this."""
BATCH_WINDOW = 50_000
"""The same where answers come as jobs: a job holds no more than this (the limit of OpenAI's Batch API)."""


class Lazy:
    """A backend that is connected at the first real ask: a stage whose answers are all stored loads no model."""

    def __init__(self, model: Model, folder: Path, watch: Stopwatch) -> None:
        self.model, self.folder, self.watch = model, folder, watch
        self._backend: Backend | None = None

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """As the backend of the model."""
        for ask in asks:
            if ask is None:
                yield ()
                continue
            self._backend = self._backend or connect(self.model, self.folder)
            yield from self.watch.through(self._backend, _again(ask, asks))
            return


def _again(first: Ask, rest: Iterator[Ask | None]) -> Iterator[Ask | None]:
    yield first
    yield from rest


class Sent:
    """A backend around a backend that tells the progress what is on its way, and what came."""

    def __init__(self, inner: Backend, progress: Progress) -> None:
        self.inner, self.progress = inner, progress

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """As the backend below."""

        def sending() -> Iterator[Ask | None]:
            for ask in asks:
                if ask is not None:
                    self.progress.sending()
                yield ask

        for burst in self.inner.complete(sending()):
            self.progress.came(burst)
            yield burst


class Usage:
    """A backend around a backend that adds up what the answers cost, stored ones too: the same on every replay."""

    def __init__(
        self, inner: Backend, totals: Counter[str], served: set[str], answered: Callable[[Sequence[Answer]], None]
    ) -> None:
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
            self.answered(burst)
            yield burst


class CountedWork(Work, Protocol):
    """The work of a stage that says what was asked."""

    def usage(self) -> dict[str, Any]:
        """Completions, tokens, finishes, served models."""
        ...


class StageWork:
    """What `drp.op.Work` promises, for one stage."""

    def __init__(
        self,
        out: Path,
        resume: Path,
        store: Path,
        progress: Progress,
        owner: Owner,
        prices: Mapping[str, Price] = types.MappingProxyType({}),
        limits: Sequence[Limit] = (),
    ) -> None:
        self._out, self._resume, self._store_path, self._progress, self._owner = out, resume, store, progress, owner
        self._prices, self._limits = prices, limits
        self._store: Store | None = None
        self._last: tuple[Model, Stored] | None = None
        self._watch: Stopwatch | None = None
        self._waits = False  # for what an earlier run had in flight
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
            self._watch = Stopwatch(self._store, self._owner, model)
            self._last = (model, self._stored(model, self._store, self._watch))
        endpoint = model.endpoint
        window = BATCH_WINDOW if endpoint.backend == "batch" else max(WINDOW, 4 * max(endpoint.concurrency, endpoint.batch))
        backend = Usage(self._last[1], self.totals, self.served, partial(self._progress.answered, asked=model.name))
        return Asking(backend, window).run(records, dialogue)

    def _stored(self, model: Model, store: Store, watch: Stopwatch) -> Stored:
        """The model behind the store, and behind a purse where it has a price."""
        progress, price = self._progress, self._prices.get(model.role)
        sent = Sent(Lazy(model, self._store_path.parent / "batch", watch), progress)
        if price is None:
            return Stored(sent, store, self._owner)
        batch = model.endpoint.backend == "batch"
        self._waits |= batch
        purse = Purse(
            sent, price, store, self._owner, self._limits, batch=batch, done=lambda: progress.seen.done, say=progress.say
        )

        def cost(request: Request, completion: Completion) -> float:
            paid = purse.cost(request, completion)
            progress.paid(paid, price.currency)
            return paid

        return Stored(purse, store, self._owner, cost)

    def say(self, text: str) -> None:
        """A line of progress."""
        self._progress.say(text)

    def usage(self) -> dict[str, Any]:
        """What was asked, stored answers included: completions, tokens, finishes, served models."""
        return usage_of(self.totals, self.served)

    def _let_go(self) -> None:
        """Drop the model that was asked last: of some engines (vLLM's) there is one to a process."""
        if self._watch:
            self._watch.stop()
        self._last = self._watch = None

    def close(self) -> None:
        """The stage has ended well: let go of the model and the store."""
        self._let_go()
        if self._store:
            self._store.end(self._owner)
            if self._waits:
                settle(self._store, self._owner)
            self._store.close()


def usage_of(totals: Mapping[str, int], served: Iterable[str]) -> dict[str, Any]:
    """What the manifest says was asked."""
    return {**dict(sorted(totals.items())), "served": sorted(served)}


def model_identity(model: Model) -> dict[str, Any]:
    """For the manifest: what the model is, and its sampling."""
    return {**model.identity(), "sampling": asdict(model.sampling)}


def write_json(path: Path, data: Any) -> None:
    """Stable JSON with a newline at its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
