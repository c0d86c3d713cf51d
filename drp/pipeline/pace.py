"""How fast models answer: each stage notes at its end how many of its requests were answered in what time."""

import time
from collections.abc import Iterator, Sequence

from drp.backends import Answer, Ask, Backend
from drp.fingerprint import canonical
from drp.models import Model
from drp.store.completions import Owner, Store

RECENT = 5
"""Runs that a guess goes by."""


class Stopwatch:
    """Runs while requests are on their way, up to the last answer: not while the model loads, nor while the store answers.
    What a stage pays for from the stopwatch's making on is what the model answered."""

    def __init__(self, store: Store, owner: Owner, model: Model) -> None:
        self.store, self.owner, self.model = store, owner, model
        ((self._last,),) = store.rows("select coalesce(max(id), 0) from payments")
        self._flying = 0
        self._since = self._seconds = 0.0

    def through(self, backend: Backend, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """What a loaded backend answers, timed."""

        def sending() -> Iterator[Ask | None]:
            for ask in asks:
                if ask is not None:
                    self._since = self._since if self._flying else time.monotonic()
                    self._flying += 1
                yield ask

        self._flying = 0  # what an earlier stream left in flight never came
        for burst in backend.complete(sending()):
            if burst:
                now = time.monotonic()
                self._seconds += now - self._since
                self._since = now
                self._flying -= len(burst)
            yield burst

    def stop(self) -> None:
        """Note the time, if anything was asked."""
        identity = canonical(self.model.identity())
        with self.store.transaction() as db:
            stage = self.store.stage(self.owner)
            db.execute(
                "insert into runs (at, stage, model, asked, seconds, prompt_tokens, completion_tokens) "
                "select ?, ?, m.id, count(*), ?, sum(prompt_tokens), sum(completion_tokens) from payments, models m "
                "where stage = ? and payments.id > ? and m.identity = ? group by m.id",
                (int(time.time()), stage, self._seconds, stage, self._last, identity),
            )


def pace(store: Store, owner: Owner, models: Sequence[int]) -> float | None:
    """How many requests a second models (by their numbers in the store) answered of late for this stage, or else for any;
    None where they never did."""
    marks = ",".join("?" * len(models))
    for scope, values in (("and s.recipe = ? and s.stage = ?", owner), ("", ())):
        found = store.rows(
            "select sum(asked), sum(seconds) from (select asked, seconds from runs join stages s on s.id = runs.stage "
            f"where model in ({marks}) {scope} order by runs.id desc limit {RECENT})",
            (*models, *values),
        )
        ((asked, seconds),) = found
        if asked and seconds:
            return float(asked / seconds)
    return None
