"""Binds the roles of a recipe to models: params.yaml's `models` (identity) and `run` (endpoint)."""

import dataclasses
import datetime
import re
import typing
from collections.abc import Iterator
from typing import Any

from drp.errors import ConfigError, Problem, choices
from drp.models import Endpoint, Model, Sampling
from drp.money.prices import Price
from drp.ops import fault
from drp.recipe.read import Document

RANGES = {
    "temperature": (0, 5), "top_p": (1e-6, 1), "top_k": (1, 1e9), "max_tokens": (1, 1e9),
    "concurrency": (1, 1e6), "batch": (1, 1e6), "timeout": (1e-3, 1e6), "attempts": (1, 1000), "rpm": (1, 1e9), "tpm": (1, 1e12),
    "poll": (1e-3, 86400),
}  # fmt: skip
"""The least and the greatest of each number in params.yaml."""

IDENTITY = ("name", "revision", "file", "sampling")


def check_params(document: Document) -> Iterator[Problem]:
    """Every fault of params.yaml: unknown keys, wrong types, a model that cannot be reached."""
    data = document.data if isinstance(document.data, dict) else {}
    for section in ("models", "run"):
        if not isinstance(data.get(section, {}), dict):
            yield document.problem((section,), "is not a mapping of names")
            return
    models, run = data.get("models", {}), data.get("run", {})
    for role, entry in models.items():
        here = ("models", str(role))
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            yield document.problem(here, "a model needs at least `name`")
            continue
        yield from _fields(
            document, here, entry, {"name": str, "revision": str | None, "file": str | None, "sampling": dict[str, Any]}
        )
        sampling = entry.get("sampling", {})
        yield from _fields(document, (*here, "sampling"), sampling, typing.get_type_hints(Sampling))
        if isinstance(sampling, dict):
            yield from _ranges(document, (*here, "sampling"), sampling)
        if role not in run:
            yield document.problem(
                here, f"no `run.{role}` says how it is reached: add e.g. `run: {{{role}: {{backend: transformers}}}}`"
            )
    for role, entry in run.items():
        here = ("run", str(role))
        if role not in models:
            yield document.problem(here, f"no model of that name{choices(role, models)}", "key")
        if not isinstance(entry, dict) or "backend" not in entry:
            yield document.problem(here, "an endpoint needs at least `backend` (batch, openai, rules, transformers, vllm)")
            continue
        yield from _fields(document, here, entry, typing.get_type_hints(Endpoint))
        yield from _ranges(document, here, entry)
        key = entry.get("key")
        if isinstance(key, str) and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", key):
            words = "is the *name* of an environment variable, in capitals, such as OPENAI_API_KEY; never the secret itself"
            yield document.problem((*here, "key"), words)
    yield from _prices(document, data.get("prices", {}), models)
    yield from _licences(document, data.get("licences", {}))


def _prices(document: Document, prices: Any, models: dict[str, Any]) -> Iterator[Problem]:
    """Every fault of `prices`: a price says what tokens cost, since when, and who says so."""
    if not isinstance(prices, dict):
        yield document.problem(("prices",), "is not a mapping of models to prices")
        return
    for role, entry in prices.items():
        here = ("prices", str(role))
        if role not in models:
            yield document.problem(here, f"no model of that name{choices(role, models)}", "key")
        yield from _fields(document, here, entry, typing.get_type_hints(Price))
        if not isinstance(entry, dict):
            continue
        required = [f.name for f in dataclasses.fields(Price) if f.default is dataclasses.MISSING]
        if missing := [key for key in required if entry.get(key) in (None, "")]:
            yield document.problem(here, f"a price needs {', '.join(f'`{key}`' for key in missing)}", "key")
        if isinstance(date := entry.get("date"), str) and date and not _is_date(date):
            yield document.problem((*here, "date"), f"{date!r} is not a date such as '2025-01-31'")
        for key, most in (("prompt", 1e6), ("completion", 1e6), ("cached", 1e6), ("batch", 1)):
            value = entry.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value <= most:
                yield document.problem((*here, key), f"{value!r} is not from 0 to {most:g}")


def _licences(document: Document, licences: Any) -> Iterator[Problem]:
    """Every fault of `licences`: the name of a source or a model (or, ending in `/`, how names begin), and its licence's id."""
    if not isinstance(licences, dict):
        yield document.problem(
            ("licences",), "is not a mapping of sources and models to licences, such as `hf://openai/gsm8k: mit`"
        )
        return
    for name, licence in licences.items():
        if not isinstance(name, str) or not isinstance(licence, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", licence):
            words = (
                f"{licence!r} is not the id of a licence, such as mit or apache-2.0 (https://spdx.org/licenses, or the hub's own)"
            )
            yield document.problem(("licences", str(name)), words)


def _is_date(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def price(params: dict[str, Any], role: str) -> Price | None:
    """What params.yaml says that the model of that role costs."""
    entry = params.get("prices", {}).get(role)
    return Price(**entry) if entry else None


def _ranges(document: Document, path: tuple[str, ...], data: dict[str, Any]) -> Iterator[Problem]:
    for key, (least, most) in RANGES.items():
        value = data.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and not least <= value <= most:
            yield document.problem((*path, key), f"{value!r} is not from {least:g} to {most:g}")


def _fields(document: Document, path: tuple[str, ...], data: Any, hints: dict[str, Any]) -> Iterator[Problem]:
    if not isinstance(data, dict):
        yield document.problem(path, "is not a mapping")
        return
    for key, value in data.items():
        if key not in hints:
            yield document.problem((*path, str(key)), f"{key!r} is not a key here{choices(key, hints)}", "key")
        elif text := fault(value, hints[key]):
            yield document.problem((*path, str(key)), f"{value!r} {text}")


def model(params: dict[str, Any], role: str, content: str | None) -> Model:
    """The model that params.yaml binds to `role`; ConfigError where it does not. `content` identifies a local folder."""
    entry = params.get("models", {}).get(role)
    if entry is None:
        raise ConfigError(f"params.yaml: models: no {role!r}{choices(role, params.get('models', {}))}")
    fields = {k: v for k, v in entry.items() if k in IDENTITY and k != "sampling"}
    return Model(
        role=role, sampling=Sampling(**entry.get("sampling", {})), endpoint=endpoint(params, role), content=content, **fields
    )


def endpoint(params: dict[str, Any], role: str) -> Endpoint:
    """How the model of that role is reached here."""
    known = {f.name for f in dataclasses.fields(Endpoint)}
    return Endpoint(**{k: v for k, v in params["run"][role].items() if k in known})
