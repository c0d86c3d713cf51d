"""Replies: the JSON value in what a model wrote, and the fault of one that is not as it must be."""

import json
import re
from collections.abc import Iterator
from typing import Any

_FENCE = re.compile(r"```[ \t]*(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<json>(.*?)</json>", re.DOTALL | re.IGNORECASE)


class Fault(ValueError):
    """A reply that cannot be used: `reason` from a short list, the text for people (and for the model that is asked again)."""

    def __init__(self, text: str, reason: str = "malformed-reply") -> None:
        super().__init__(text)
        self.reason = reason


def read_json(reply: str) -> dict[str, Any]:
    """The one JSON object of a reply: the whole of it, or in a Markdown fence, or in `<json>…</json>`.

    Where there are several, the last that can be read counts: models think first. Fault where there is none.
    """
    values = [value for text in _candidates(reply) if (value := _loads(text)) is not None]
    if not values:
        raise Fault("the reply is not a JSON object")
    return values[-1]


def _candidates(reply: str) -> Iterator[str]:
    yield from (m[1] for m in _FENCE.finditer(reply))
    yield from (m[1] for m in _TAG.finditer(reply))
    yield reply


def _loads(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def entries(value: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of objects under `key`; Fault where it is missing, empty or something else."""
    found = value.get(key)
    if not isinstance(found, list) or not found or not all(isinstance(entry, dict) for entry in found):
        raise Fault(f'"{key}" must be a list of objects that is not empty')
    return found


def integer(entry: dict[str, Any], key: str) -> int:
    """The whole number under `key`; Fault where it is missing or something else."""
    found = entry.get(key)
    if not isinstance(found, int) or isinstance(found, bool):
        raise Fault(f'"{key}" must be a whole number, not {json.dumps(found)}')
    return found


def words(entry: dict[str, Any], key: str) -> str | None:
    """The text under `key`, None where it is null, blank or missing; Fault where it is something else."""
    found = entry.get(key)
    if found is not None and not isinstance(found, str):
        raise Fault(f'"{key}" must be text or null, not {json.dumps(found)}')
    return found if found and found.strip() else None
