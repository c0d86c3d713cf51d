"""What may leave this machine: values without its absolute paths."""

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

LEAST = 2
"""Parts that a path has at least: a lone `/` or `/think` is text."""


def public(value: Any) -> Any:
    """A value as strangers may read it: of an absolute path only its last part is left, behind `…/`."""
    if isinstance(value, dict):
        return {public(key): public(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [public(inner) for inner in value]
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    scheme, mark, rest = text.rpartition("file://")
    path = PureWindowsPath(rest) if re.match(r"[A-Za-z]:[\\/]", rest) else PurePosixPath(rest)
    parts = [part for part in path.parts if part != path.anchor]
    local = path.is_absolute() or rest.startswith("~/")
    if mark and not scheme:
        return f"…/{path.name}"
    return f"…/{path.name}" if local and len(parts) >= LEAST and "\n" not in text else text
