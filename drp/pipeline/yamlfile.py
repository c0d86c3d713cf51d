"""YAML files of the pipeline: read with a clear error, written byte-stably, atomically, and only when they change."""

import io
import os
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from drp.errors import ConfigError

LOCK = "dvc.lock"
PAUSES = (0.05, 0.1, 0.15, 0.2)
"""Seconds between looks at a lock that DVC may be writing."""


def mapping(path: Path, comments: bool = False) -> Any:
    """The mapping in a YAML file, {} where there is none (with `comments`, one that keeps them when written again).

    ConfigError where it is not a mapping, as after a merge that left its conflict markers in a generated file.
    """
    for pause in PAUSES if path.name == LOCK else ():
        try:
            return _mapping(path, comments)
        except ConfigError:
            time.sleep(pause)
    return _mapping(path, comments)


def locked(path: Path) -> Any:
    """The mapping in a dvc.lock. DVC writes it in place, and half of it may be YAML too: one that was written just now (or is
    empty) is read when it has rested."""
    for pause in PAUSES:
        if not path.exists():
            return {}
        before, found, now = path.stat(), mapping(path), path.stat()
        same = (before.st_mtime_ns, before.st_size) == (now.st_mtime_ns, now.st_size)
        if found and same and time.time() - now.st_mtime > pause:
            return found
        time.sleep(pause)
    return mapping(path)


def _mapping(path: Path, comments: bool) -> Any:
    if not path.exists():
        return {}
    where, cure = f"{path.parent.name}/{path.name}", "mend it, or delete it if it is generated and run `drp compile`"
    if path.name == LOCK:  # it alone knows what is up to date
        cure = f"`git checkout {path}` brings back the last one committed; what ran since, `dvc repro` finds in its cache"
    try:
        data = YAML(typ="rt" if comments else "safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: not YAML; {cure}") from error
    if not isinstance(data, dict | None):
        raise ConfigError(f"{where}: not a mapping; {cure}")
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
