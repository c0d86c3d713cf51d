"""Verifiers: whether a reply gives the gold answer; by name, or by `module:function` for one's own."""

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from drp.errors import ConfigError, choices
from drp.verifiers.exact import exact_verifier
from drp.verifiers.math import math_verifier

Verifier = Callable[[str, str], tuple[str | None, bool]]
"""(reply, gold answer) to (the answer that the reply gives, or None; whether it is right). Runs in a worker process."""

Judgement = Literal["right", "wrong", "no-answer", "truncated", "timeout"]

BUILT_IN: dict[str, Callable[[], Verifier]] = {"math": math_verifier, "exact": exact_verifier}
"""What makes each verifier; making one imports what it needs."""

_DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged: a reply (None where the response has none), the gold answer, whether the response was cut off."""

    reply: str | None
    answer: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out: `prediction` is the answer that the reply gives; `timeout` says that the verifier could not end."""

    prediction: str | None
    correct: bool
    verdict: Judgement


def verdict_of(case: Case, prediction: str | None, correct: bool) -> Verdict:
    """The verdict on a case for which a verifier found `prediction`."""
    if correct:
        return Verdict(prediction, True, "right")
    if prediction is not None:
        return Verdict(prediction, False, "wrong")
    return Verdict(None, False, "truncated" if case.truncated else "no-answer")


def problem_with(name: str) -> str | None:
    """What is wrong with a verifier's name, as far as can be said without importing anything."""
    if name in BUILT_IN or _DOTTED.fullmatch(name):
        return None
    return f"{name!r} is not a verifier{choices(name, BUILT_IN)}; one's own is named module:function"


def named(name: str) -> Verifier:
    """The verifier of that name, ready to judge; ConfigError where there is none, MissingPackage where an extra is missing."""
    if problem := problem_with(name):
        raise ConfigError(problem)
    if name in BUILT_IN:
        return BUILT_IN[name]()
    module, _, function = name.partition(":")
    try:
        found: Verifier = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"verifier {name!r} cannot be imported: {error}") from error
    return found
