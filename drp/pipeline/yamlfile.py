"""Writes YAML files byte-stably, atomically, and only when they change."""

import io
import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


def render(data: Any, header: str = "") -> str:
    """The YAML text of plain data: block style, keys in their given order, a comment on top."""
    yaml = YAML(typ="rt")
    yaml.default_flow_style = False
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=2, offset=0)
    stream = io.StringIO()
    if data:
        yaml.dump(data, stream)
    return "".join(f"# {line}\n" for line in header.splitlines()) + stream.getvalue()


def write(path: Path, text: str) -> bool:
    """Put `text` into the file in one step, unless it is there already; whether anything was written."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return True


def dump(path: Path, data: Any, header: str = "") -> bool:
    """Render and write."""
    return write(path, render(data, header))
