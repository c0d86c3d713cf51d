"""The ledger: what stages have paid, and what running ones have set aside, within the budgets of their recipes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from drp.processes import alive, born
from drp.store.completions import Owner, Store

LOST = "lost"
"""The process of a lease whose holder ended with requests in flight: they may have been paid for, so it counts as paid."""
NOISE = 1e-9
"""A budget's share by which sums of floating-point numbers may be off."""
SHARE = 8
"""Of what is free, one in so many may be set aside ahead of need: other stages need some, and a kill may lose it."""


class Limit(NamedTuple):
    """So much may be spent on a recipe, or on one of its stages (in all its variants); `place` is where that is written."""

    amount: float
    recipe: str
    stage: str | None
    place: str
    currency: str


def spent(store: Store, recipe: str, stage: str | None = None) -> float:
    """What a recipe, or one stage of it in all its variants, has paid so far."""
    return _Account(store, recipe, stage).spent()


def lost(store: Store, recipe: str, stage: str | None = None) -> float:
    """What was in flight when runs of a recipe (or of one stage) ended before the answers came: paid at the worst."""
    return _Account(store, recipe, stage).leased()[0]


@dataclass(frozen=True)
class Refusal:
    """Why money was not granted: the limit in the way, what is paid, what was lost, and what other processes hold."""

    limit: Limit
    spent: float
    lost: float
    held: float


class Lease:
    """Money that this process has set aside for a stage's requests in flight, under every limit at once.

    What all processes have paid, lost and set aside never exceeds a limit. Leases of processes that are gone, however
    they went, are counted as lost. `resumes`: what was in flight is waited for, not paid again (a batch job), so that
    what an earlier run of the stage lost is `inherited`: held on from the start, it covers what is asked first.
    """

    def __init__(self, store: Store, owner: Owner, limits: Sequence[Limit], resumes: bool = False) -> None:
        self.store, self.owner, self.limits = store, owner, limits
        self.amount = self.inherited = 0.0
        self._id: int | None = None
        self._accounts = [_Account(store, limit.recipe, limit.stage) for limit in limits]
        with store.transaction():
            self._bury()
            if resumes:
                lost_here = "from leases where process = ? and recipe = ? and stage = ?"
                ((self.inherited,),) = store.rows(f"select coalesce(sum(amount), 0.0) {lost_here}", (LOST, *owner))
                store.db.execute(f"delete {lost_here}", (LOST, *owner))
                self._write(self.inherited)

    def hold(self, flying: float, need: float, ahead: float = 0.0) -> Refusal | None:
        """Hold what is in flight, `need`, and of `ahead` what leaves enough for others.

        Where `need` is not to be had: why; what is in flight is then all that is held.
        """
        with self.store.transaction():
            self._bury()
            for limit, account in zip(self.limits, self._accounts, strict=True):
                paid = account.spent()
                gone, mine, held = account.leased(apart=self._id)
                free = limit.amount * (1 + NOISE) - paid - gone - mine - held - max(flying + need, self.inherited)
                if free < 0:
                    self.amount = flying
                    self._write(max(flying, self.inherited))
                    return Refusal(limit, paid, gone, held)
                ahead = min(ahead, free / SHARE)
            self.amount = max(flying + need, self.inherited) + ahead
            self._write(self.amount)
        return None

    def landed(self, worst: float) -> None:
        """An answer is kept for which so much was set aside: of what was inherited, that is no longer in flight."""
        self.inherited = max(0.0, self.inherited - worst)

    def end(self, flying: float) -> None:
        """Give back all but what is in flight (or was, and has not come yet), which is lost."""
        flying = max(flying, self.inherited)
        if self._id is None:
            return
        with self.store.transaction() as db:
            self.amount = 0.0
            self._write(0.0)
            if flying > 0:
                db.execute("insert into leases (process, recipe, stage, amount) values (?, ?, ?, ?)", (LOST, *self.owner, flying))

    def _write(self, amount: float) -> None:
        """Set the row, inside a transaction (another process may have buried it, which it did not need to)."""
        db, me = self.store.db, _me()
        if self._id is not None:
            db.execute("delete from leases where id = ? and process = ?", (self._id, me))
        self._id = None
        if amount > 0:
            row = db.execute("insert into leases (process, recipe, stage, amount) values (?, ?, ?, ?)", (me, *self.owner, amount))
            self._id = row.lastrowid

    def _bury(self) -> None:
        """Count leases of dead processes as lost."""
        rows = self.store.rows("select distinct process from leases where recipe = ? and process != ?", (self.owner.recipe, LOST))
        for (process,) in rows:
            if not _alive(process):
                self.store.db.execute("update leases set process = ? where process = ?", (LOST, process))


def settle(store: Store, owner: Owner) -> None:
    """A stage whose lost requests are waited for (batch jobs) has ended well: none of them is in flight any more."""
    with store.transaction() as db:
        db.execute("delete from leases where process = ? and recipe = ? and stage = ?", (LOST, *owner))


class _Account:
    """What was paid under a recipe (or a stage of it); a second look reads only what has come since."""

    def __init__(self, store: Store, recipe: str, stage: str | None) -> None:
        self.store, self.recipe, self.stage = store, recipe, stage
        self._seen: dict[int, tuple[float, int]] = {}  # by number of a stage: its sum, and the last payment in it

    def spent(self) -> float:
        """The sum of all payments."""
        for (stage,) in self.store.rows(f"select id from stages where {_SCOPE}", self._scope()):
            total, last = self._seen.get(stage, (0.0, 0))
            found = self.store.rows(
                "select coalesce(sum(cost), 0), coalesce(max(id), ?) from payments where stage = ? and id > ?",
                (last, stage, last),
            )
            ((more, newest),) = found
            self._seen[stage] = (total + more, newest)
        return sum(total for total, _ in self._seen.values())

    def leased(self, apart: int | None = None) -> tuple[float, float, float]:
        """What was lost, what this process holds (but for the lease of that number), and what others hold."""
        found = self.store.rows(
            f"select process, sum(amount) from leases where {_SCOPE} and id is not ? group by process", (*self._scope(), apart)
        )
        held: dict[str, float] = dict(found)
        gone, mine = held.pop(LOST, 0.0), held.pop(_me(), 0.0)
        return gone, mine, sum(held.values())

    def _scope(self) -> tuple[str | None, ...]:
        return (self.recipe, self.stage, self.stage, self.stage)


_SCOPE = "recipe = ? and (? is null or stage = ? or stage like ? || '--%')"
"""A recipe's rows, or those of one stage in all its variants."""


def _me() -> str:
    """This process by pid, birth and boot: a pid that is given again is another process."""
    return f"{os.getpid()}:{born(os.getpid())}:{_boot()}"


def _alive(name: str) -> bool:
    pid, _, rest = name.partition(":")
    at, _, boot = rest.rpartition(":")
    return boot == _boot() and alive(int(pid), at)


@cache
def _boot() -> str:
    """The number of the machine's present boot, where it has one: processes' births are counted from it."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="ascii").strip() if path.exists() else ""
