"""Limits: what the budgets of a recipe and of its stages allow, and why they cannot be kept where they cannot."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from drp.errors import Problem, choices
from drp.money.ledger import Limit
from drp.money.prices import DEFAULT_CURRENCY
from drp.ops import fault
from drp.recipe.drafts import Draft, Drafts
from drp.recipe.read import Document
from drp.recipe.stages import RoleUse, Stage, Value
from drp.recipe.words import BUDGET

REMOTE = ("openai", "batch")
"""Backends that somebody may send a bill for."""


class Prices:
    """The prices of params.yaml, as far as budgets need them (their own faults are found elsewhere)."""

    def __init__(self, params: Document) -> None:
        data = params.data if isinstance(params.data, dict) else {}
        self._prices, self._run = _mapping(data.get("prices")), _mapping(data.get("run"))

    def billed(self, role: str) -> bool:
        """Whether a model has a price, or should have one."""
        return role in self._prices or _mapping(self._run.get(role)).get("backend") in REMOTE

    def unpriced(self, roles: Iterable[str]) -> list[str]:
        """Those without a price."""
        return [role for role in dict.fromkeys(roles) if role not in self._prices]

    def currencies(self, roles: Iterable[str]) -> dict[str, str]:
        """The currency of each model's price."""
        return {role: str(_mapping(self._prices.get(role)).get("currency", DEFAULT_CURRENCY)) for role in roles}

    def limit(self, value: Value, recipe: str, stage: str | None, roles: Sequence[str]) -> tuple[Limit | None, list[Problem]]:
        """What a budget means for the models that it is to pay for, or its problems. Null is no budget."""
        if value.data is None:
            return None, []
        if fault(value.data, float) or value.data < 0:
            return None, [value.problem(f"{value.data!r} is not an amount of money: a number from 0 on, in the prices' currency")]
        if missing := self.unpriced(roles):
            words = f"no price is known of {', '.join(map(repr, missing))}{choices(missing[0], self._prices)}"
            cure = f"add prices.{missing[0]} to params.yaml: {{prompt: …, completion: …, date: …, source: …}}"
            return None, [value.problem(f"{words}; {cure}")]
        units = self.currencies(roles)
        if len(set(units.values())) > 1:
            return None, [value.problem(f"{_listed(units)}: a budget is in one currency")]
        currency = next(iter(units.values()), DEFAULT_CURRENCY)
        return Limit(float(value.data), recipe, stage, f"{'.'.join(value.path)} in {value.file}", currency), []


def limits(prices: Prices, drafts: Drafts, draft: Draft, models: Mapping[str, Mapping[str, RoleUse]]) -> tuple[Limit, ...]:
    """What a stage may spend by its own budget and by its recipe's. Models that a stage made cost nothing."""
    uses = [] if draft.op.makes_model else [use for named in models.values() for use in named.values()]
    asked = [use.role for use in uses if use.stage is None]
    budgets: list[tuple[Value, str | None, list[str]]] = []
    if own := draft.keys.get(BUDGET):
        budgets.append((own, draft.name, asked))
        if own.data is not None and not asked:
            drafts.problems.append(own.problem("this stage asks no model that could cost anything: it has no budget", "key"))
    if BUDGET in drafts.data:
        whole = drafts.value((BUDGET,), drafts.data[BUDGET])
        budgets.append((whole, None, [role for role in asked if prices.billed(role)]))
    found: list[Limit] = []
    for value, stage, roles in budgets:
        limit, problems = prices.limit(value, draft.owner, stage, roles)
        drafts.problems += problems
        if limit and roles:
            found.append(limit)
    return tuple(found)


def check_currency(drafts: Drafts, stages: Iterable[Stage]) -> None:
    """A recipe's budget is in one currency, whatever its stages pay in."""
    units = {limit.currency for stage in stages for limit in stage.limits if limit.stage is None}
    if len(units) > 1:
        drafts.say((BUDGET,), f"its stages pay in {', '.join(sorted(units))}: a budget is in one currency")


def _listed(units: dict[str, str]) -> str:
    return ", ".join(f"{role!r} is priced in {unit}" for role, unit in units.items())


def _mapping(data: Any) -> dict[str, Any]:
    return data if isinstance(data, dict) else {}
