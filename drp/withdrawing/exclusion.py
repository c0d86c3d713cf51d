"""Puts a value into a YAML file of people's: every other byte stays, flow style stays flow, block stays block."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from drp.errors import ConfigError
from drp.recipe.read import Path_, load

PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_./() -]*[A-Za-z0-9_.()])?")
"""Text that may stand without quotes, if YAML then reads it as text."""
Nested = str | Mapping[str, "Nested"]


def put(text: str, place: Path_, value: str, shown: str) -> str:
    """The YAML text with `value` at a path of keys; mappings that are not there yet are made in the style around them.

    ConfigError, with what to write by hand, where the file would then say anything else than that (aliases, merge keys).
    """
    wanted = _with(load(text), place, value)
    try:
        found = _put(text, place, value)
        if load(found) == wanted:
            return found
    except YAMLError:
        pass  # as where it reads otherwise
    raise ConfigError(f"{shown}: cannot be edited here; write by hand, under {'.'.join(place[:-1])}: {_flow({place[-1]: value})}")


def _with(data: Any, place: Path_, value: str) -> Any:
    found = _copied(data)
    here = found
    for key in place[:-1]:
        if not isinstance(here.get(key), dict):
            here[key] = {}
        here = here[key]
    here[place[-1]] = value
    return found


def _copied(data: Any) -> Any:
    """A copy in which nothing stands at two places: an alias is read as a thing of its own."""
    if isinstance(data, dict):
        return {key: _copied(inner) for key, inner in data.items()}
    return [_copied(inner) for inner in data] if isinstance(data, list) else data


def _put(text: str, place: Path_, value: str) -> str:
    node: Node | None = YAML(typ="safe", pure=True).compose(text)
    if node is None:
        return text + _block(_nested(place, value), 0)
    start = end = 0
    for depth, key in enumerate(place):
        if not isinstance(node, MappingNode):  # a null
            return _replaced(text, start, end, _nested(place[depth:], value))
        pair = next(((name, held) for name, held in node.value if name.value == key), None)
        if pair is None:
            return _added(text, node, key, _nested(place[depth + 1 :], value))
        node = pair[1]
        end = _end(*pair)
        start = min(node.start_mark.index, end)
    return _replaced(text, start, end, value)


def _nested(keys: Path_, value: str) -> Nested:
    return {keys[0]: _nested(keys[1:], value)} if keys else value


def _replaced(text: str, start: int, end: int, value: Nested) -> str:
    """What stands there becomes the value; where nothing does, behind the colon of its key."""
    before = text[:start]
    return f"{before}{'' if before[-1:].isspace() else ' '}{_flow(value)}{text[end:]}"


def _added(text: str, node: MappingNode, key: str, value: Nested) -> str:
    if node.flow_style:
        item = f"{_scalar(key)}: {_flow(value)}"
        if not node.value:
            return text[: node.start_mark.index + 1] + item + text[node.start_mark.index + 1 :]
        end = _end(*node.value[-1])
        return f"{text[:end]}, {item}{text[end:]}"
    indent = node.value[0][0].start_mark.column
    end = _end(*node.value[-1])
    if text[:end].endswith("\n"):  # a block scalar
        return text[:end] + _block({key: value}, indent) + text[end:]
    newline = text.find("\n", end)
    if newline < 0:
        return f"{text}\n{_block({key: value}, indent)}"
    return text[: newline + 1] + _block({key: value}, indent) + text[newline + 1 :]


def _end(key: Node, value: Node) -> int:
    """Where the text of a key's value ends: a block collection is said to end where the next thing begins."""
    if isinstance(value, ScalarNode):
        return int(value.end_mark.index if value.end_mark.index > value.start_mark.index else key.end_mark.index + 1)
    if getattr(value, "flow_style", False) or not value.value:
        return int(value.end_mark.index)
    last = value.value[-1]
    return _end(*last) if isinstance(value, MappingNode) else _end(last, last)


def _flow(value: Nested) -> str:
    if isinstance(value, str):
        return _scalar(value)
    return "{" + ", ".join(f"{_scalar(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"


def _block(value: Nested, indent: int) -> str:
    assert not isinstance(value, str)
    lines = ""
    for key, inner in value.items():
        own = f" {_scalar(inner)}\n" if isinstance(inner, str) else f"\n{_block(inner, indent + 2)}"
        lines += f"{' ' * indent}{_scalar(key)}:{own}"
    return lines


def _scalar(text: str) -> str:
    """A text as YAML that is read as that text, as a key and as a value; in quotes where it must be."""
    if PLAIN.fullmatch(text) and load(f"{{a: {text}}}") == {"a": text}:
        return text
    return json.dumps(text, ensure_ascii=False)
