"""Completions by their keys: from the store, or from a file that `drp cache export` wrote and DVC brought."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from drp.errors import DataError
from drp.lineage.snapshot import Snapshot
from drp.lineage.tables import Tables, unglobbed
from drp.money.prices import Price
from drp.pipeline.locked import Made
from drp.store.completions import Owner, digest_of
from drp.store.peek import Peek, peek

SHARED = "recipes/{}/completions.parquet"
"""Where the completions of a recipe are shared: `drp cache export NAME`, then `dvc add`."""
LEAST = 8
"""Hex digits at the beginning of a key that are enough to ask for it."""


@dataclass(frozen=True)
class Reply:
    """A completion with its request: the prompt as rendered (role and text of each turn), the reply as it came, and the bill.

    `model` is the identity that was asked, `served` the name that answered; `cost` what was paid here in all (None: nothing is
    known of a payment), `estimate` what it costs by the prices of params.yaml (None: no price of such a model); `used_by` the
    stages whose last run it answered; `where` it was found.
    """

    key: str
    model: dict[str, Any]
    messages: tuple[tuple[str, str], ...]
    schema: dict[str, Any] | None
    index: int
    seed: int | None
    text: str
    finish: str
    served: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    attempts: int
    error: str
    cost: float | None
    estimate: float | None
    currency: str
    used_by: tuple[str, ...]
    sound: bool
    where: str


class Replies:
    """The completions that can be had here, for a snapshot."""

    def __init__(self, tables: Tables) -> None:
        self.tables, self.snapshot = tables, tables.graph.snapshot

    @cached_property
    def store(self) -> Peek | None:
        """The completion store, looked at only; None where there is none."""
        return peek(self.snapshot.project.store)

    @cached_property
    def files(self) -> dict[str, Path]:
        """The shared files of the recipes that have one, by path."""
        return dict(_shared(self.snapshot))

    def find(self, key: str) -> Reply | None:
        """The completion of that key, or the only one whose key begins so (8 digits at least); None where there is none."""
        if len(key) < LEAST or not set(key) <= set("0123456789abcdef"):
            return None
        return self._stored(key) or next(self._exported(key), None)

    def _stored(self, key: str) -> Reply | None:
        if self.store is None:
            return None
        low, high = bytes.fromhex(key.ljust(64, "0")), bytes.fromhex(key.ljust(64, "f"))
        rows = self.store.rows(
            "select c.id, c.key, m.identity, c.request, c.completion, c.digest "
            "from completions c join models m on m.id = c.model where c.key between ? and ? limit 2",
            (low, high),
        )
        if len(rows) != 1:
            return None
        number, found, identity, request, completion, digest = rows[0]
        users = self.store.rows("select recipe, stage from stages where id in (select stage from uses where completion = ?)",
                                (number,))  # fmt: skip
        ((paid, cost),) = self.store.rows("select count(*), sum(cost) from payments where key = ?", (found,))
        used_by = [f"{owner.recipe}/{owner.stage}" for owner in map(Owner._make, users)]
        return self._reply(found.hex(), identity, request, completion, used_by, digest_of(completion) == digest,
                           "the completion store", cost if paid else None)  # fmt: skip

    def _exported(self, key: str) -> Iterator[Reply]:
        for path, file in self.files.items():
            sql = (
                "select key, model, request, completion, digest, used_by from read_parquet(?) where key >= ? and key <= ? limit 2"
            )
            try:
                rows = self.tables.query(sql, [unglobbed(file), key, f"{key}g"])
            except DataError as error:
                raise DataError(f"{path}: not a file of `drp cache export`; `drp verify` says what brings it back") from error
            if len(rows) == 1:
                row = rows[0]
                sound = digest_of(row["completion"]).hex() == row["digest"]
                yield self._reply(row["key"], row["model"], row["request"], row["completion"], row["used_by"], sound, path, None)

    def _reply(
        self, key: str, identity: str, request: str, completion: str, used_by: list[str], sound: bool, where: str,
        cost: float | None,
    ) -> Reply:  # fmt: skip
        model, asked, done = json.loads(identity), json.loads(request), json.loads(completion)
        known = self._prices.get(model["name"])
        own = (done["prompt_tokens"], done["completion_tokens"], done.get("cached_tokens", 0))
        return Reply(
            key=key, model=model, messages=tuple((role, text) for role, text in asked["messages"]), schema=asked["schema"],
            index=asked["index"], seed=asked["seed"], text=done["text"], finish=done["finish"], served=done["served"],
            prompt_tokens=own[0], completion_tokens=own[1], cached_tokens=own[2], attempts=done.get("attempts", 1),
            error=done["error"], cost=cost if known or cost else None, estimate=_estimate(known, *own) if known else None,
            currency=known.currency if known else "", used_by=tuple(sorted(used_by)), sound=sound, where=where,
        )  # fmt: skip

    @cached_property
    def _prices(self) -> dict[str, Price]:
        """Prices by the model's name, as params.yaml has them now."""
        from drp.recipe.binding import price  # it brings the ops along: only who finds a completion needs it

        params = self.snapshot.mapping("params.yaml")
        found = {entry.get("name"): price(params, role) for role, entry in (params.get("models") or {}).items()}
        return {str(name): known for name, known in found.items() if known}

    def close(self) -> None:
        """Let go of the store."""
        if self.__dict__.get("store"):
            self.__dict__["store"].close()


def _estimate(known: Price, prompt: int, completion: int, cached: int) -> float:
    from drp.models import Completion

    return known.cost(Completion("", "stop", prompt, completion, cached_tokens=cached))


def _shared(snapshot: Snapshot) -> Iterator[tuple[str, Path]]:
    recipes = sorted({path.split("/")[1] for path in snapshot.files if path.startswith("recipes/") and path.count("/") >= 2})
    for recipe in recipes:
        path = SHARED.format(recipe)
        pointer = (snapshot.mapping(f"{path}.dvc").get("outs") or [{}])[0] if f"{path}.dvc" in snapshot.files else {}
        made = Made(str(pointer.get("md5", "")), pointer.get("size"))
        if snapshot.find(path, made):
            yield path, snapshot.data(path, made)
