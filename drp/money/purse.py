"""The purse around a backend: no request is sent that the budget could not pay for in the worst case."""

import json
import time
from collections.abc import Callable, Iterator, Sequence

from drp.backends import Answer, Ask, Backend
from drp.errors import BudgetReached
from drp.models import Completion, Request
from drp.money.ledger import Lease, Limit, Refusal
from drp.money.prices import Price
from drp.store.completions import Owner, Store

AHEAD = 32
"""Money is set aside for so many requests more than are asked, so that the ledger is not written to for each."""
PAUSE = 0.2
"""Seconds between two looks at money that other processes hold."""
ENOUGH = 16
"""Answers seen before the tokens of a prompt are guessed from them, and not taken to be its bytes."""
MARGIN = 1.25
"""The densest prompt seen may be outdone by so much."""
MESSAGE = 16
"""Tokens at most around a message; as many around the whole prompt."""


class Purse:
    """A backend whose answers have a price, and whose requests, in flight and paid, stay within `limits`.

    An ask that cannot be afforded while others are in flight (here, or in another process under the same limits) waits,
    for they may cost less than was set aside. BudgetReached where nothing is in flight, after all answers were given up.
    """

    def __init__(
        self,
        inner: Backend,
        price: Price,
        store: Store,
        owner: Owner,
        limits: Sequence[Limit] = (),
        *,
        batch: bool = False,
        done: Callable[[], int] = lambda: 0,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.inner, self.price, self.store, self.owner, self.limits = inner, price, store, owner, limits
        self.batch, self.done, self.say = batch, done, say
        self.bound = Bound()
        self.aside: dict[str, float] = {}  # by key: what was set aside for requests in flight
        self._told = False

    def cost(self, request: Request, completion: Completion) -> float:
        """What an answer cost; all that was set aside for it where the server does not say how many tokens it took."""
        if completion.prompt_tokens or completion.completion_tokens or completion.finish not in ("stop", "length"):
            return self.price.cost(completion, self.batch)
        if not self._told:
            self._told = True
            self.say(f"{request.model.name}: the server reports no usage: such answers are taken to cost the most they can")
        return self.aside.get(request.key()) or self.worst(request)

    def worst(self, request: Request) -> float:
        """What a request costs at the most: its prompt, and a completion of full length."""
        return self.price.most(self.bound.prompt(request), self.bound.completion(request), self.batch)

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """As the backend below, within the limits."""
        return _Spree(self, asks).through() if self.limits else self.inner.complete(asks)

    def reached(self, refusal: Refusal, worst: float) -> BudgetReached:
        """What to raise where a limit is reached."""
        limit, unit = refusal.limit, refusal.limit.currency
        whose = f"stage {limit.stage!r}" if limit.stage else "the recipe"
        gone = f", {_money(refusal.lost)} was in flight when runs were ended and counts as paid" if refusal.lost else ""
        return BudgetReached(
            f"{self.owner.recipe}/{self.owner.stage}: the budget of {whose} is reached: {_money(refusal.spent)} of "
            f"{_money(limit.amount)} {unit} is paid{gone}, and the next request could cost {_money(worst)}; {self.done()} "
            f"records are done. Raise {limit.place}; what is paid is kept, so running it again goes on from here"
        )


class _Spree:
    """One stream of asks through a purse: what is in flight, and the ask that waits for money."""

    def __init__(self, purse: Purse, asks: Iterator[Ask | None]) -> None:
        self.purse, self.asks = purse, asks
        self.lease = Lease(purse.store, purse.owner, purse.limits, resumes=purse.batch)
        self.flying: dict[int, tuple[Request, float]] = {}  # by ticket: what was set aside for it
        self.reserved = self.paid = 0.0  # in flight; paid out of the lease since it was last written
        self.handed: Sequence[Answer] = ()  # the burst that is being kept
        self.newest = 0  # the last payment before it
        self.waiting: Ask | None = None
        self.refusal: Refusal | None = None

    def through(self) -> Iterator[Sequence[Answer]]:
        """Answer what can be afforded; BudgetReached where that is not all."""
        try:
            for burst in self.purse.inner.complete(self._affordable()):
                self._hand(burst)
                yield burst
                self._landed(burst)  # only now is it kept, and its price paid
                self._patience()
        finally:
            self._landed(self._paid())
            self.lease.end(self.reserved)

    def _hand(self, burst: Sequence[Answer]) -> None:
        if burst:
            ((self.newest,),) = self.purse.store.rows("select coalesce(max(id), 0) from payments")
        self.handed = burst

    def _paid(self) -> list[Answer]:
        """Of a burst after which nobody came back: what was kept of it."""
        if not self.handed:
            return []
        rows = self.purse.store.rows(
            "select key from payments where id > ? and stage = (select id from stages where recipe = ? and stage = ?)",
            (self.newest, *self.purse.owner),
        )
        paid = {key.hex() for (key,) in rows}
        return [answer for answer in self.handed if self.flying[answer.ticket][0].key() in paid]

    def _affordable(self) -> Iterator[Ask | None]:
        for ask in self.asks:
            while ask is not None and not self._afford(ask):
                self.waiting = ask
                yield None
            self.waiting = None
            yield ask

    def _afford(self, ask: Ask) -> bool:
        """Set an ask's worst case aside, if that can be."""
        if self.refusal:  # and nothing has landed since
            return False
        worst = self.purse.worst(ask.request)
        if self.reserved + self.paid + worst > self.lease.amount:
            self.refusal = self.lease.hold(self.reserved, worst, AHEAD * worst)
            self.paid = 0.0
            if self.refusal:
                return False
        self.flying[ask.ticket] = (ask.request, worst)
        self.purse.aside[ask.request.key()] = worst
        self.reserved += worst
        return True

    def _landed(self, burst: Sequence[Answer]) -> None:
        for answer in burst:
            request, worst = self.flying.pop(answer.ticket)
            self.reserved -= worst
            self.paid += self.purse.cost(request, answer.completion)
            self.purse.aside.pop(request.key(), None)
            self.lease.landed(worst)
            self.purse.bound.seen(request, answer.completion)
            self.refusal = None
        self.handed = ()
        if not self.flying:
            self.reserved = 0.0

    def _patience(self) -> None:
        """Where an ask waits and nothing is in flight: wait for the money of other processes, or give up."""
        if self.waiting is None or self.flying:
            return
        worst, said = self.purse.worst(self.waiting.request), False
        while refusal := self.lease.hold(0.0, worst):
            if not refusal.held:
                raise self.purse.reached(refusal, worst)
            if not said:
                said = True
                self.purse.say(f"waits for {_money(refusal.held)} {refusal.limit.currency} that other stages have set aside")
            time.sleep(PAUSE)
        self.refusal, self.paid = None, 0.0


class Bound:
    """The most tokens that a request can have, learned from the usage that answers report.

    A token is a byte of text at the least; once enough answers were seen, the densest of them and a margin are the bound for
    ASCII. All other text stays at its bytes: how dense it is, English says nothing of.
    """

    def __init__(self) -> None:
        self._answers = 0
        self._densest = 0.0
        self._longest = 0
        self._schema: tuple[object, int, int] = (None, 0, 0)  # the last one and its size: an op's requests share it

    def prompt(self, request: Request) -> float:
        """Tokens of its prompt."""
        seen = MARGIN * self._densest
        plain, other = self._sizes(request)
        return plain * (seen if self._answers >= ENOUGH else max(1.0, seen)) + other * max(1.0, seen)

    def completion(self, request: Request) -> int:
        """Tokens of its completion: all that it may have (or the most that a server gave which does not keep to that)."""
        return max(request.model.sampling.max_tokens, self._longest)

    def seen(self, request: Request, completion: Completion) -> None:
        """Learn from an answer (one without usage tells nothing)."""
        if completion.prompt_tokens:
            plain, other = self._sizes(request)
            mostly = other <= plain  # ASCII: only such a prompt says how dense that is
            self._answers += mostly
            self._densest = max(self._densest, completion.prompt_tokens / (plain if mostly else plain + other))
        self._longest = max(self._longest, completion.completion_tokens)

    def _sizes(self, request: Request) -> tuple[int, int]:
        """Bytes of all that a prompt is made of (the messages and what stands around them, the schema of the reply): of ASCII,
        and of all else."""
        if request.schema is not self._schema[0]:
            self._schema = (request.schema, *_sizes(json.dumps(request.schema, ensure_ascii=False)))
        _, plain, other = self._schema
        plain += MESSAGE * (1 + len(request.messages))
        for message in request.messages:
            more = _sizes(message.content)
            plain, other = plain + more[0], other + more[1]
        return plain, other


def _sizes(text: str) -> tuple[int, int]:
    """Bytes of a text: of ASCII, and of all else."""
    if text.isascii():
        return len(text), 0
    plain = len(text.encode("ascii", "ignore"))
    return plain, len(text.encode()) - plain


def _money(amount: float) -> str:
    """An amount with as many digits as it needs to be told from nothing."""
    return f"{amount:.2f}" if amount >= 10 or amount == 0 else f"{amount:.4g}"
