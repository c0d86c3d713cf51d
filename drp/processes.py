"""Processes: which one is alive, and is still the one that it was."""

import os
import subprocess
import sys
from pathlib import Path


def born(pid: int) -> str | None:
    """When a process began, as the kernel counts it; None where it has ended. A pid is given again, the two together are not."""
    if sys.platform != "linux":
        found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], text=True, capture_output=True, check=False)
        return found.stdout.strip() or None
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in ("Z", "X") else rest[18]


def alive(pid: int, at: str | None) -> bool:
    """Whether the process that began `at` is still there."""
    return at is not None and born(pid) == at


def command(pid: int) -> str:
    """What a process was started as; empty where that cannot be seen."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return ""
    shown = [os.path.basename(words[0]), *words[1:]] if words[0] else words
    return " ".join(shown).strip()


def lockers(path: Path) -> list[int]:
    """The processes that hold a lock (`flock`) on a file; none where the kernel does not say (other than Linux).

    It looks, and never tries the lock itself: whoever comes for it at that moment would be turned away.
    """
    try:
        inode = str(path.stat().st_ino)
        table = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    found = [line.split() for line in table if "FLOCK" in line and "->" not in line]
    pids = sorted({int(words[4]) for words in found if words[5].rpartition(":")[2] == inode})
    return [pid for pid in pids if pid > 0 and _opened(pid, path)]


def _opened(pid: int, path: Path) -> bool:
    """Whether a process has the file open: an inode's number is unique on its own disk only."""
    try:
        return any(os.path.realpath(entry) == str(path.resolve()) for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
