"""YAML files of the pipeline: read with a clear error, written byte-stably, atomically, and only when they change."""

import io
import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from drp.errors import ConfigError


def mapping(path: Path, comments: bool = False) -> Any:
    """The mapping in a YAML file, {} where there is none (with `comments`, one that keeps them when written again).

    ConfigError where it is not a mapping, as after a merge that left its conflict markers in a generated file.
    """
    if not path.exists():
        return {}
    where = f"{path.parent.name}/{path.name}"
    try:
        data = YAML(typ="rt" if comments else "safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: not YAML; mend it, or delete it if it is generated and run `drp compile`") from error
    if not isinstance(data, dict | None):
        raise ConfigError(f"{where}: not a mapping; mend it, or delete it if it is generated and run `drp compile`")
    return data or {}


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
