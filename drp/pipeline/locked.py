"""What DVC remembers, read without DVC: locks, hashes of files, its cache. Nothing is written, no lock is taken.

DVC's own `status` says the same (`tests/test_plan.py` holds the two together), but not while a stage runs, and it writes.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drp.pipeline.yamlfile import mapping
from drp.project import Project

Place = tuple[str, str]
"""A parameter: its file, and the dotted key in it."""

NEVER = (".git", ".hg/", ".dvc/")
"""What DVC ignores of itself."""


@dataclass(frozen=True)
class Made:
    """A file or folder (`<md5>.dir`) as a lock names it."""

    md5: str
    size: int | None = None


@dataclass(frozen=True)
class Lock:
    """What a stage was last made from, and what it made: an entry of dvc.lock, or of the run cache."""

    cmd: Any
    deps: dict[str, Made] = field(default_factory=dict)
    params: dict[Place, Any] = field(default_factory=dict)
    outs: dict[str, Made] = field(default_factory=dict)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Lock":
        """From its YAML."""

        def files(key: str) -> dict[str, Made]:
            return {item["path"]: Made(str(item.get("md5", "")), item.get("size")) for item in plain.get(key) or []}

        params = {(file, key): value for file, keys in (plain.get("params") or {}).items() for key, value in keys.items()}
        return cls(plain.get("cmd"), files("deps"), params, files("outs"))


class Files:
    """The files of a project by DVC's hashes; paths are relative to its root. Each is read once."""

    def __init__(self, project: Project) -> None:
        self.root, self.cache = project.root, project.dvc_cache
        self._seen: dict[Path, str | None] = {}

    def md5(self, path: str) -> str | None:
        """As DVC would hash it: a folder is the hash of its listing, with `.dir`; None where there is nothing."""
        full = (self.root / path).resolve()
        if full not in self._seen:
            self._seen[full] = _folder(full, self._ignored(full)) if full.is_dir() else _file(full) if full.exists() else None
        return self._seen[full]

    def size(self, path: str) -> int | None:
        """In bytes, of a file; of a folder, all that is in it."""
        full = self.root / path
        if full.is_dir():
            return sum(p.stat().st_size for p in full.rglob("*") if p.is_file())
        return full.stat().st_size if full.exists() else None

    def object(self, md5: str) -> Path:
        """Where DVC's cache keeps it."""
        return self.cache / "files" / "md5" / md5[:2] / md5[2:]

    def cached(self, md5: str) -> bool:
        """Whether DVC's cache has it, all of it where it is a folder."""
        here = self.object(md5)
        if not md5 or not here.exists():
            return False
        return not md5.endswith(".dir") or all(self.object(entry["md5"]).exists() for entry in json.loads(here.read_bytes()))

    def remembered(self, cmd: Any, deps: Mapping[str, str], params: Mapping[Place, Any], outs: Iterable[str]) -> Lock | None:
        """The newest run of the run cache that was made from exactly this, if all that it made is in the cache."""
        values: dict[str, dict[str, Any]] = {}
        for (file, key), value in params.items():
            values.setdefault(file, {})[key] = value
        plain = {
            "cmd": cmd, "deps": [{"path": p, "hash": "md5", "md5": deps[p]} for p in sorted(deps)], "params": values,
            "outs": sorted(outs),
        }  # fmt: skip
        try:
            text = json.dumps({k: v for k, v in plain.items() if v}, sort_keys=True)
        except TypeError:  # a date: DVC could not hash it either
            return None
        key = hashlib.sha256(text.encode()).hexdigest()
        runs = sorted((self.cache / "runs" / key[:2] / key).glob("*"), key=lambda p: p.stat().st_mtime)
        found = Lock.of(mapping(runs[-1])) if runs else None
        return found if found and all(self.cached(made.md5) for made in found.outs.values()) else None

    def _ignored(self, folder: Path) -> Callable[[Iterable[str]], set[str]]:
        """Those of a folder's files that the project's .dvcignore names (its patterns are relative to the root)."""
        import pathspec

        file, root = self.root / ".dvcignore", self.root.resolve()
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        spec = pathspec.GitIgnoreSpec.from_lines([*NEVER, *lines])
        base = f"{folder.relative_to(root).as_posix()}/".removeprefix("./") if folder.is_relative_to(root) else ""
        return lambda names: {name for name in names if spec.match_file(base + name)}


def _file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _folder(path: Path, ignored: Callable[[Iterable[str]], set[str]]) -> str:
    names = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
    skipped = ignored(names)
    listing = [{"md5": _file(names[name]), "relpath": name} for name in sorted(names) if name not in skipped]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"
