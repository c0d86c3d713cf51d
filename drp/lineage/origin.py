"""The commit that a stage's outcome came with, and whether that commit has the very things that it was made from."""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from drp.lineage.graph import Graph, Node
from drp.lineage.snapshot import git
from drp.recipe.read import load


@dataclass(frozen=True)
class Origin:
    """`commit` brought the lock entry (None: not committed, or no git); `differs` names prompts, sources and values that the
    entry was made from and that commit (of what is not committed: the last one) has otherwise: none of them, and it is clean.
    `shallow`: the clone's history begins with that commit, so that an earlier one may have brought it."""

    commit: str | None
    date: str = ""
    subject: str = ""
    differs: tuple[str, ...] = ()
    shallow: bool = False

    @property
    def clean(self) -> bool:
        """Whether all that made it can be had from the commit."""
        return self.commit is not None and not self.differs

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"commit": self.commit, "date": self.date, "subject": self.subject, "dirty": not self.clean,
                "differs": list(self.differs), "shallow": self.shallow}  # fmt: skip

    def __str__(self) -> str:
        if self.commit is None:
            return "not committed" + (f"; the last commit has another {', '.join(self.differs)}" if self.differs else "")
        return named(self.commit, self.shallow) + (f", dirty: it has another {', '.join(self.differs)}" if self.differs else "")


def named(commit: str, shallow: bool) -> str:
    """A commit that brought something, as people read it."""
    return f"commit {commit[:10]}" + (" or earlier (this clone is shallow)" if shallow else "")


class Origins:
    """The origins of a snapshot's stages. Git is asked once for a recipe's history and once for a commit's listing: each
    process of it costs as much as reading a record."""

    def __init__(self, graph: Graph) -> None:
        self.snapshot = graph.snapshot
        self._made = {path for node in graph.nodes.values() for path in node.outs}
        self.start = self.snapshot.commit or "HEAD"
        self._known: dict[str, Origin] = {}
        self._values: dict[tuple[str, str], dict[str, Any]] = {}
        self._contents: dict[tuple[str, str], bytes | None] = {}
        self._brought: dict[str, dict[str, tuple[str, str, str]]] = {}
        self._listings: dict[str, dict[str, str]] = {}
        self._changes: dict[str, dict[str, str]] = {}

    @cached_property
    def boundary(self) -> frozenset[str]:
        """The commits with which a shallow clone begins: git tells of them as if they had brought all that they have."""
        told = os.fsdecode(git(self.snapshot.root, "rev-parse", "--git-path", "shallow") or b"").rstrip("\n")
        file = self.snapshot.root / told
        return frozenset(file.read_text().split()) if told and file.is_file() else frozenset()

    def of(self, node: Node) -> Origin:
        """The origin of a stage's outcome."""
        if node.address not in self._known:
            self._known[node.address] = self._find(node)
        return self._known[node.address]

    def _find(self, node: Node) -> Origin:
        lock = f"recipes/{node.recipe}/dvc.lock"
        md5 = next((made.md5 for path, made in node.outs.items() if path.endswith((".manifest.json", ".json"))), "")
        if not md5 or md5.encode() not in (self._git(self.start, lock) or b""):
            return Origin(None, differs=tuple(self._differs(node, self.start)) if self._listing(self.start) else ())
        if lock not in self._brought:
            self._brought[lock] = self._history(lock)
        commit, date, subject = self._brought[lock].get(md5, ("", "", ""))
        differs = tuple(self._differs(node, commit)) if commit else ()
        return Origin(commit or None, date, subject, differs, commit in self.boundary)

    def _history(self, lock: str) -> dict[str, tuple[str, str, str]]:
        """For each md5 that a lock file ever named, the last commit that brought it: its hash, date and subject."""
        how = ("-p", "--unified=0", "--no-color", "--no-ext-diff", "--text", "--diff-merges=combined")
        told = git(self.snapshot.root, "log", *how, "--format=%x00%H%x00%cI%x00%s%x00", self.start, "--", lock)
        found: dict[str, tuple[str, str, str]] = {}
        _, *parts = os.fsdecode(told or b"").split("\0")
        for commit, date, subject, patch in zip(*[iter(parts)] * 4, strict=False):
            for md5 in (MERGED if "\n@@@" in patch else ADDED).findall(patch):
                found.setdefault(md5, (commit, date, subject))
        return found

    def _differs(self, node: Node, commit: str) -> list[str]:
        """What the commit has otherwise, or not at all."""
        found = []
        for path, made in node.deps.items():
            if path in self._made or made.md5.endswith(".dir"):
                continue
            if f"{path}.dvc" in self._listing(commit):  # data of people's own, which DVC keeps
                known: str | None = self._pointed(commit, f"{path}.dvc")
            else:
                known = self._md5(commit, path)
            if known != made.md5:
                found.append(path)
        for (file, key), value in node.params.items():
            if _at(self._file(commit, file), key) != value:
                found.append(f"{file}:{key}")
        own = f"ops/{node.op}.py"
        if (self.snapshot.root / own).exists() and own not in self._listing(commit):
            found.append(own)
        return found

    def has(self, path: str, md5: str, commit: str) -> bool:
        """Whether a commit has exactly that file."""
        return self._md5(commit, path) == md5

    def _pointed(self, commit: str, pointer: str) -> str:
        """The md5 in a .dvc file."""
        outs = self._file(commit, pointer).get("outs") or [{}]
        return str(outs[0].get("md5", ""))

    def _md5(self, commit: str, path: str) -> str | None:
        """The md5 of a file as a commit has it; of one that lies here unchanged, without asking git for it."""
        blob = self._listing(commit).get(path)
        if blob is None:
            return None
        here = self.snapshot.root / path
        content = here.read_bytes() if here.is_file() else b""
        if hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest() != blob:
            content = self._git(commit, path) or b""
        return hashlib.md5(content).hexdigest()

    def _listing(self, commit: str) -> dict[str, str]:
        """The blobs of a commit, by their paths in the project."""
        if commit not in self._listings:
            told = os.fsdecode(git(self.snapshot.root, "ls-tree", "-r", "-z", commit) or b"").split("\0")
            self._listings[commit] = {line.partition("\t")[2]: line.split()[2] for line in told if line}
        return self._listings[commit]

    def _file(self, commit: str, file: str) -> dict[str, Any]:
        if (commit, file) not in self._values:
            self._values[commit, file] = load((self._git(commit, file) or b"").decode()) or {}
        return self._values[commit, file]

    def _git(self, commit: str, path: str) -> bytes | None:
        if (commit, path) not in self._contents:
            self._contents[commit, path] = git(self.snapshot.root, "show", f"{commit}:./{path}")
        return self._contents[commit, path]

    def last(self, path: str, commit: str | None) -> str | None:
        """The commit that last changed a file, up to another commit (None: that of the snapshot)."""
        start = commit or self.start
        if start not in self._changes:
            how = ("--format=%x00%x00%H", "--name-only", "--relative", "-z", "--diff-merges=combined")
            told = os.fsdecode(git(self.snapshot.root, "log", *how, start, "--", *FOLLOWED) or b"")
            changes: dict[str, str] = {}
            for name, *files in (part.split("\0") for each in told.split("\0\0") if (part := each.strip("\0\n"))):
                for file in files:
                    changes.setdefault(file.strip("\n"), name)
            self._changes[start] = changes
        found = self._changes[start].get(path)
        if found is None and not path.startswith(FOLLOWED):
            found = (git(self.snapshot.root, "log", "-1", "--format=%H", start, "--", path) or b"").decode().strip() or None
            self._changes[start][path] = found or ""
        return found or None


FOLLOWED = ("prompts",)
"""Folders whose history is read at once."""
ADDED = re.compile(r"^\+ +md5: (\w+)", re.MULTILINE)
"""An md5 that a patch of a lock file adds."""
MERGED = re.compile(r"^\+{2,} +md5: (\w+)", re.MULTILINE)
"""The same in a merge's patch: one that none of its parents has."""


def _at(data: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(data, dict) or part not in data:
            return None
        data = data[part]
    return data
