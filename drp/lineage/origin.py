"""The commit that a stage's outcome came with, and whether that commit has the very things that it was made from."""

import hashlib
from dataclasses import dataclass
from typing import Any

from drp.lineage.graph import Node
from drp.lineage.snapshot import Snapshot, git
from drp.recipe.read import load


@dataclass(frozen=True)
class Origin:
    """`commit` brought the lock entry (None: not committed, or no git); `differs` names prompts, sources and values that the
    entry was made from and that commit has otherwise: none of them, and it is clean."""

    commit: str | None
    date: str = ""
    subject: str = ""
    differs: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether all that made it can be had from the commit."""
        return self.commit is not None and not self.differs

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"commit": self.commit, "date": self.date, "subject": self.subject, "dirty": not self.clean,
                "differs": list(self.differs)}  # fmt: skip

    def __str__(self) -> str:
        if self.commit is None:
            return "not committed"
        return f"commit {self.commit[:10]}" + (f", dirty: it has another {', '.join(self.differs)}" if self.differs else "")


class Origins:
    """The origins of a snapshot's stages."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._known: dict[str, Origin] = {}
        self._values: dict[tuple[str, str], dict[str, Any]] = {}
        self._contents: dict[tuple[str, str], bytes | None] = {}
        self._last: dict[tuple[str, str | None], str | None] = {}

    def of(self, node: Node) -> Origin:
        """The origin of a stage's outcome."""
        if node.address not in self._known:
            self._known[node.address] = self._find(node)
        return self._known[node.address]

    def _find(self, node: Node) -> Origin:
        root, lock = self.snapshot.root, f"recipes/{node.recipe}/dvc.lock"
        md5 = next((made.md5 for path, made in node.outs.items() if path.endswith((".manifest.json", ".json"))), "")
        start = self.snapshot.commit or "HEAD"
        text = (git(root, "show", f"{start}:./{lock}") or b"").decode()
        if not md5 or md5 not in text:
            return Origin(None)
        told = git(root, "log", "-1", "--format=%H%x00%cI%x00%s", f"-S{md5}", start, "--", lock)
        commit, date, subject = (told or b"").decode().strip().split("\0") if told and told.strip() else ("", "", "")
        return Origin(commit or None, date, subject, tuple(self._differs(node, commit)) if commit else ())

    def _differs(self, node: Node, commit: str) -> list[str]:
        found = []
        for path, made in node.deps.items():
            content = None if path.startswith("data/") or made.md5.endswith(".dir") else self._git(commit, path)
            if content is not None and hashlib.md5(content).hexdigest() != made.md5:
                found.append(path)
        for (file, key), value in node.params.items():
            if _at(self._file(commit, file), key) != value:
                found.append(f"{file}:{key}")
        return found

    def _file(self, commit: str, file: str) -> dict[str, Any]:
        if (commit, file) not in self._values:
            self._values[commit, file] = load((self._git(commit, file) or b"").decode()) or {}
        return self._values[commit, file]

    def _git(self, commit: str, path: str) -> bytes | None:
        if (commit, path) not in self._contents:
            self._contents[commit, path] = git(self.snapshot.root, "show", f"{commit}:./{path}")
        return self._contents[commit, path]

    def last(self, path: str, commit: str | None) -> str | None:
        """The commit that last changed a file, up to another commit (None: HEAD)."""
        if (path, commit) not in self._last:
            told = git(self.snapshot.root, "log", "-1", "--format=%H", commit or "HEAD", "--", path)
            self._last[path, commit] = (told or b"").decode().strip() or None
        return self._last[path, commit]


def _at(data: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(data, dict) or part not in data:
            return None
        data = data[part]
    return data
