"""Reads YAML 1.2 exactly as DVC does, and remembers where every key and value stands."""

import datetime
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from drp.errors import Problem

Path_ = tuple[str, ...]

UNTRACKED = (("axes",), ("licences",))
"""Sections that no stage tracks key by key: a dot in a key of theirs does no harm."""


@dataclass(frozen=True)
class Document:
    """A YAML file: its data, and the (line, column), 1-based, of each key and each value by its path."""

    file: str
    data: Any
    keys: dict[Path_, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path_, tuple[int, int]] = field(default_factory=dict)

    def problem(self, path: Path_, text: str, at: str = "value") -> Problem:
        """A problem at the value (or key) of that path, or at the nearest place above it."""
        places = self.values if at == "value" else self.keys
        here = path
        while here and here not in places:
            here = here[:-1]
        line, column = places.get(here, (1, 1))
        return Problem(self.file, line, column, f"{'.'.join(map(str, path))}: {text}" if path else text)


def load(text: str) -> Any:
    """The data of a YAML text; equal to what DVC reads from it (ruamel, YAML 1.2, safe). An empty text is {}."""
    return YAML(typ="safe").load(text) or {}


def read(path: Path, shown: str) -> tuple[Document, list[Problem]]:
    """The document at `path` (named `shown` in messages), with the problems of its YAML and of what DVC cannot carry."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Document(shown, {}), [Problem(shown, 1, 1, "no such file")]
    except UnicodeDecodeError as error:
        return Document(shown, {}), [Problem(shown, 1, 1, f"not UTF-8: {error.reason} at byte {error.start}")]
    try:
        data = load(text)
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        words = " ".join(str(error.problem or error.context or error).split("\n")[0].split())
        return Document(shown, {}), [Problem(shown, line, column, f"not YAML: {words}")]
    document = Document(shown, data)
    if node is not None:
        _walk(node, (), document)
    return document, list(_lint(document, data, ()))


def _walk(node: Node, path: Path_, document: Document) -> None:
    document.values[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            document.keys[here] = (key.start_mark.line + 1, key.start_mark.column + 1)
            _walk(value, here, document)
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*path, str(index)), document)


def _lint(document: Document, data: Any, path: Path_) -> Iterator[Problem]:
    """What `dvc exp run -S`, DVC's templating or its parameter paths would break."""
    if isinstance(data, dict):
        for key, value in data.items():
            here = (*path, str(key))
            if not isinstance(key, str):
                yield document.problem(here, f"key {key!r} is not text; quote it", "key")
            elif "." in key and path[:1] not in UNTRACKED:
                yield document.problem(here, f"key {key!r} has a dot, which DVC reads as a path; rename it", "key")
            if "<<" in document_keys(document, path):
                yield document.problem(
                    (*path, "<<"), "merge keys are lost by `dvc exp run -S`; use extends, or repeat the keys", "key"
                )
            yield from _lint(document, value, here)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _lint(document, value, (*path, str(index)))
    elif isinstance(data, datetime.date):
        yield document.problem(path, f"{data} is read as a date, which DVC cannot carry; quote it")
    elif isinstance(data, float) and not math.isfinite(data):
        yield document.problem(path, f"{data} is not a finite number")
    elif isinstance(data, str) and "${" in data:
        yield document.problem(path, f"{data!r}: '${{' is DVC's templating and breaks `dvc exp run -S`; write the value out")


def document_keys(document: Document, path: Path_) -> set[str]:
    """The keys as written in the mapping at `path` (a merge key `<<` is gone from the data but not from the text)."""
    return {k[-1] for k in document.keys if k[:-1] == path}
