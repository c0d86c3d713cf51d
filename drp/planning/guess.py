"""Guesses what requests will take: tokens as the store's answers had them, money by the prices, time as it was seen."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from drp.models import Model
from drp.money.prices import Price
from drp.pipeline.pace import pace
from drp.recipe.binding import price as price_of
from drp.recipe.limits import REMOTE
from drp.store.completions import Owner, Store

CHARACTERS = 4.0
"""A token's, where no prompt of the model is known."""
SAMPLE = 300
"""Stored prompts and answers that a guess goes by."""

Source = Literal["stage", "model", "limit"]
"""Whose answers the length of an answer was taken from; `limit`: none were known, so it is max_tokens."""


class Length(NamedTuple):
    """Tokens of an answer, and how that is known."""

    tokens: float
    source: Source


@dataclass(frozen=True)
class Guess:
    """What requests will take. Money is null where the model has no price, though somebody may send a bill (`billed`)."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    length: Source
    cost: float | None
    currency: str | None
    billed: bool
    seconds: float | None


class Guesser:
    """Guesses by what the store knows (nothing, where there is none)."""

    def __init__(self, store: Store | None, params: dict[str, Any]) -> None:
        self.store, self.params = store, params

    def guess(self, owner: Owner, model: Model, requests: int, characters: float) -> Guess:
        """What so many requests with so many characters of prompts will take."""
        length = self._length(owner, model)
        prompt, completion = round(characters / self._characters(model)), round(requests * length.tokens)
        endpoint = self.params.get("run", {}).get(model.role) or {}
        price: Price | None = price_of(self.params, model.role)
        batch = endpoint.get("backend") == "batch"
        cost = price.most(prompt, completion, batch) if price else None
        rate = pace(self.store, owner, self._ids(model)) if self.store else None
        return Guess(
            requests, prompt, completion, length.source, cost, price.currency if price else None,
            price is not None or endpoint.get("backend") in REMOTE, requests / rate if rate else None,
        )  # fmt: skip

    def worst(self, model: Model, prompt: float) -> float:
        """What one request may cost, as the budget reckons before anything was answered: a prompt of so many tokens, a
        completion of full length; nothing where the model has no price."""
        price: Price | None = price_of(self.params, model.role)
        batch = (self.params.get("run", {}).get(model.role) or {}).get("backend") == "batch"
        return price.most(prompt, model.sampling.max_tokens, batch) if price else 0.0

    @cached_property
    def _models(self) -> list[tuple[int, dict[str, Any]]]:
        rows = self.store.rows("select id, identity from models") if self.store else []
        return [(id_, json.loads(text)) for id_, text in rows]

    def _ids(self, model: Model) -> list[int]:
        """The model's numbers in the store, whatever its sampling."""
        return [id_ for id_, known in self._models if (known["name"], known["file"]) == (model.name, model.file)]

    def _characters(self, model: Model) -> float:
        """How many make a token in this model's prompts."""
        ids = self._ids(model)
        if not self.store or not ids:
            return CHARACTERS
        rows = self.store.rows(
            f"select request, prompt_tokens from completions where model in ({','.join('?' * len(ids))}) and prompt_tokens > 0 "
            f"order by id desc limit {SAMPLE}",
            ids,
        )
        characters = sum(len(content) for request, _ in rows for _, content in json.loads(request)["messages"])
        tokens = sum(count for _, count in rows)
        return characters / tokens if tokens else CHARACTERS

    def _length(self, owner: Owner, model: Model) -> Length:
        """How long its answers are: those that the stage used last, or else any."""
        ids = self._ids(model)
        if not self.store or not ids:
            return Length(model.sampling.max_tokens, "limit")
        whole = f"c.model in ({','.join('?' * len(ids))}) and c.finish in ('stop', 'length')"
        of_stage = (
            "select c.completion_tokens n from uses u join stages s on s.id = u.stage join completions c on u.completion = c.id "
            f"where s.recipe = ? and s.stage = ? and {whole} limit {10 * SAMPLE}"
        )
        of_model = f"select c.completion_tokens n from completions c where {whole} order by id desc limit {SAMPLE}"
        queries: tuple[tuple[Source, str, list[Any]], ...] = (("stage", of_stage, [*owner, *ids]), ("model", of_model, ids))
        for source, query, values in queries:
            ((mean,),) = self.store.rows(f"select avg(n) from ({query})", values)
            if mean is not None:
                return Length(min(mean, model.sampling.max_tokens), source)
        return Length(model.sampling.max_tokens, "limit")
