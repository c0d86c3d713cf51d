"""Hashes of files that were taken before, known again by the files' stamps, so that each is read once."""

import hashlib
import json
import os
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from drp.project import Project

SETTLED = 2_000_000_000
"""Nanoseconds since its last change after which a file's stamp stands for its bytes: a clock is no finer than its ticks."""


class Stamps:
    """md5s by path, each with the stamp (times, size, inode) that the file had; kept in `.dvc/tmp/drp/sums.json`."""

    def __init__(self, project: Project) -> None:
        self.root, self.file = project.root, project.scratch / "sums.json"
        self._new: dict[str, tuple[list[int], str]] = {}

    @cached_property
    def _kept(self) -> dict[str, tuple[list[int], str]]:
        try:
            found = json.loads(self.file.read_bytes())
        except (OSError, ValueError):  # nothing was kept, or it was cut short: hashes can be taken again
            return {}
        return found if isinstance(found, dict) else {}

    def known(self, path: str) -> str | None:
        """The md5 of a file that is as it was when it was hashed; None where that is not known."""
        stamp, md5 = self._kept.get(path) or ([], "")
        return md5 if stamp == _stamp(self.root / path) else None

    def md5(self, path: str) -> str:
        """The md5 of a file, read if it must be."""
        if found := self.known(path):
            return found
        stamp = _stamp(self.root / path)
        with (self.root / path).open("rb") as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
        if max(stamp[:2]) < time.time_ns() - SETTLED:
            self._new[path] = (stamp, md5)
        return md5

    def keep(self) -> None:
        """Remember what was hashed. Where that cannot be written (a project of another's), it is hashed again next time."""
        if not self._new:
            return
        part = self.file.with_name(f"{self.file.name}.{os.getpid()}.part")
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({**self._kept, **self._new}), encoding="utf-8")
            os.replace(part, self.file)


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino]
