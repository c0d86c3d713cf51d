"""Prompts as they were when a stage used them: kept by their hash, found again there or in git's history."""

import difflib
import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from drp.store.completions import Store

Origin = Literal["store", "git"]
COMMITS = 200
"""How far back in the history of a prompt is looked."""


def keep(path: Path, files: Iterable[Path]) -> None:
    """Put the texts of these files into the completion store, unless they are there."""
    texts = {hashlib.md5(data).hexdigest(): data for file in files if (data := file.read_bytes())}
    if not texts:
        return
    store = Store(path)
    try:
        known = {md5 for (md5,) in store.rows(f"select md5 from texts where md5 in ({','.join('?' * len(texts))})", texts)}
        if new := [(md5, data.decode()) for md5, data in texts.items() if md5 not in known]:
            with store.transaction() as db:
                db.executemany("insert or ignore into texts (md5, text) values (?, ?)", new)
    finally:
        store.close()


def find(store: Store | None, root: Path, path: str, md5: str) -> tuple[str, Origin] | None:
    """The text of a prompt that had this hash, and where it was found."""
    for (text,) in store.rows("select text from texts where md5 = ?", (md5,)) if store else []:
        return str(text), "store"
    for data in _history(root, path):
        if hashlib.md5(data).hexdigest() == md5:
            return data.decode(errors="replace"), "git"
    return None


def changed_lines(path: str, old: str, new: str) -> tuple[str, ...]:
    """A unified diff with one line around each change, its file names left out."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), path, path, lineterm="", n=1)
    return tuple(lines)[2:]


def _history(root: Path, path: str) -> Iterable[bytes]:
    """The file's contents in the commits that changed it, newest first; none where there is no git, or no repository."""
    try:
        listed = subprocess.run(
            ["git", "log", f"-{COMMITS}", "--format=%H", "--", path], cwd=root, capture_output=True, text=True, check=False
        )
    except OSError:  # no such program
        return
    for commit in listed.stdout.split():
        shown = subprocess.run(["git", "show", f"{commit}:./{path}"], cwd=root, capture_output=True, check=False)
        if shown.returncode == 0:
            yield shown.stdout
