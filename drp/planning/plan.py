"""The plan: what would run and why, what it would ask, and what that would take. Nothing runs, is written or asked."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from drp.models import Model
from drp.money.ledger import Limit, lost, spent
from drp.pipeline.locked import Files
from drp.pipeline.yamlfile import mapping
from drp.planning.entries import Entries
from drp.planning.forecast import Fate, Forecast
from drp.planning.guess import Guess, Guesser
from drp.planning.probe import Probe, Rehearsal, asks
from drp.planning.training import Training, training
from drp.project import Project
from drp.store.completions import Owner
from drp.store.peek import peek


@dataclass(frozen=True)
class Asking:
    """What one model would be asked by a stage: at least `new` requests, and at most `most`, beside those that are stored.

    `worst` is what the dearest one may cost: a budget must have so much left before it is sent."""

    model: Model
    stored: int
    new: Guess
    most: Guess
    worst: float = 0.0

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "model": self.model.role, "name": self.model.name, "stored": self.stored,
            "new": asdict(self.new), "most": asdict(self.most),
        }  # fmt: skip


@dataclass(frozen=True)
class Planned:
    """A stage: what becomes of it and why, and what it would ask (`rehearsal` is None where it asks nothing) or train."""

    fate: Fate
    rehearsal: Rehearsal | None
    askings: tuple[Asking, ...]
    training: Training | None = None

    @property
    def known(self) -> bool:
        """Whether there was anything to go by."""
        return self.rehearsal is None or self.rehearsal.basis != "none"

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        entry, rehearsal = self.fate.entry, self.rehearsal
        found: dict[str, Any] = {
            "recipe": entry.recipe, "stage": entry.name, "op": entry.op, "state": self.fate.state,
            "reasons": [reason.plain() for reason in self.fate.reasons],
        }  # fmt: skip
        if rehearsal:
            found["completions"] = {
                "new": rehearsal.new, "most": sum(a.most.requests for a in self.askings) if self.known else None,
                "stored": rehearsal.stored, "basis": rehearsal.basis, "pending": rehearsal.pending, "note": rehearsal.note,
                "models": [asking.plain() for asking in self.askings],
            }  # fmt: skip
        if self.training:
            found["training"] = self.training.plain()
        return found


@dataclass(frozen=True)
class Budget:
    """A limit, what is paid of it (or lost), and what the plan would add at least and at most; `worst` is what the dearest of
    its requests may cost (0 where it has none)."""

    limit: Limit
    spent: float
    new: float
    most: float
    worst: float = 0.0

    @property
    def exceeded(self) -> bool:
        """Whether the plan would come to its end before its stages do."""
        return self.spent + self.new > self.limit.amount

    @property
    def left(self) -> float:
        """What is left of it now."""
        return max(0.0, self.limit.amount - self.spent)

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "recipe": self.limit.recipe, "stage": self.limit.stage, "amount": self.limit.amount, "currency": self.limit.currency,
            "spent": self.spent, "new": self.new, "most": self.most, "exceeded": self.exceeded,
            "left": self.left, "worst": self.worst,
        }  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """All stages in the order in which they would run. `stale` names generated files that `drp compile` would write."""

    stages: tuple[Planned, ...]
    budgets: tuple[Budget, ...]
    stale: tuple[str, ...]
    unread: tuple[str, ...]

    def states(self) -> Counter[str]:
        """How many stages there are of each state."""
        return Counter(planned.fate.state for planned in self.stages)

    def askings(self) -> Iterator[Asking]:
        """All that would be asked."""
        for planned in self.stages:
            yield from planned.askings

    def trainings(self) -> tuple[float, float, list[str]]:
        """Seconds of the trainings that will run, and of those that may, as long as they took last; and those of which no time is
        known."""
        known = [(p.fate.state, p.training.seconds) for p in self.stages if p.training and p.training.seconds is not None]
        unknown = [p.fate.entry.address for p in self.stages if p.training and p.training.seconds is None]
        return sum(s for state, s in known if state == "will run"), sum(s for _, s in known), unknown

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        sure, all_, unknown = self.trainings()
        new, most = [a.new for a in self.askings()], [a.most for a in self.askings()]
        return {
            "stages": [planned.plain() for planned in self.stages],
            "totals": {
                "stages": dict(self.states()),
                "completions": {
                    "new": sum(g.requests for g in new), "most": sum(g.requests for g in most),
                    "stored": sum(a.stored for a in self.askings()), "complete": all(p.known for p in self.stages),
                },
                "cost": {"new": _sums(new), "most": _sums(most)},
                "seconds": {"new": seconds(new), "most": seconds(most)},
                "training": {"new": sure, "most": all_, "unknown": unknown},
            },
            "budgets": [budget.plain() for budget in self.budgets],
            "stale": list(self.stale), "unread": list(self.unread),
        }  # fmt: skip


def _sums(guesses: list[Guess]) -> dict[str, float]:
    """Money by currency."""
    found: Counter[str] = Counter()
    for guess in guesses:
        if guess.cost is not None and guess.currency:
            found[guess.currency] += guess.cost  # type: ignore[assignment]
    return dict(found)


def seconds(guesses: list[Guess]) -> float | None:
    """Of requests, one stage after the other; None where a time is not known."""
    known = [guess.seconds if guess.requests else 0.0 for guess in guesses]
    return None if None in known else sum(s for s in known if s)


def plan(project: Project, recipe: str | None = None) -> Plan:
    """The plan for a recipe and all that it is made from, or for every recipe."""
    if recipe:
        project.recipe(recipe)
    store = peek(project.store)
    try:
        entries = Entries(project)
        forecast = Forecast(entries, Files(project), store)
        fates = forecast.of(recipe)
        params = mapping(project.params)
        probe, guesser = Probe(project, forecast, store, params), Guesser(store, params)
        for fate in reversed(fates):  # users first: they read, and so rehearse, what they are made from
            if fate.open and fate.entry.stage and asks(fate.entry.stage):
                probe.rehearse(fate.entry.stage)
        stages = tuple(replace(_planned(fate, probe, guesser), training=training(project, fate)) for fate in fates)
        limits = dict.fromkeys(limit for p in stages if p.fate.entry.stage for limit in p.fate.entry.stage.limits)
        budgets: list[Budget] = []
        for limit in limits:
            under = [a for p in stages if p.fate.entry.stage and limit in p.fate.entry.stage.limits for a in p.askings]
            paid = sum(of(store, limit.recipe, limit.stage) for of in (spent, lost)) if store else 0.0
            new, most = sum(a.new.cost or 0 for a in under), sum(a.most.cost or 0 for a in under)
            budgets.append(Budget(limit, paid, new, most, max((a.worst for a in under if a.most.requests), default=0.0)))
        return Plan(stages, tuple(budgets), tuple(entries.stale), tuple(entries.unread))
    finally:
        if store:
            store.close()


def _planned(fate: Fate, probe: Probe, guesser: Guesser) -> Planned:
    stage = fate.entry.stage
    if not fate.open or stage is None or not asks(stage):
        return Planned(fate, None, ())
    rehearsal, owner = probe.rehearse(stage), Owner(stage.ref.recipe, stage.ref.slug)
    askings: list[Asking] = []
    for model, count in rehearsal.counts.items():
        most, all_ = rehearsal.most(model), count.new + count.stored
        characters = count.new_chars + (most - count.new) * (count.chars / all_ if all_ else 0)
        new = guesser.guess(owner, model, count.new, count.new_chars)
        worst = guesser.worst(model, count.dearest)
        askings.append(Asking(model, count.stored, new, guesser.guess(owner, model, most, characters), worst))
    return Planned(fate, rehearsal, tuple(askings))
