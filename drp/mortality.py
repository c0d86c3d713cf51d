"""Mortality: a process that dies with its parent, so that no orphan goes on spending."""

import ctypes
import os
import select
import signal
import sys
import threading
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel for a signal when the parent dies. Linux only; elsewhere a no-op."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died just before
        os.kill(os.getpid(), number)


def die_with_dvc(number: signal.Signals = signal.SIGTERM) -> None:
    """As `die_with_parent`, and with DVC where a shell stands between: `sh -c 'drp stage …'` outlives the DVC that began it.

    (bash puts the command in its own place, dash does not; which of them DVC takes is `$SHELL`'s say.)
    """
    die_with_parent(number)
    if sys.platform != "linux" or "-c" not in _words(os.getppid())[1:2]:
        return
    dvc = _parent_of(os.getppid())
    if not any(name in ("dvc", "drp") for name in map(os.path.basename, _words(dvc))):
        return
    try:
        handle = os.pidfd_open(dvc)
    except ProcessLookupError:
        os.kill(os.getpid(), number)
        return
    threading.Thread(target=_wait, args=(handle, number), daemon=True).start()


def _wait(handle: int, number: signal.Signals) -> None:
    """Until the process behind a handle has ended; then the signal."""
    ended = select.poll()
    ended.register(handle, select.POLLIN)
    ended.poll()
    os.kill(os.getpid(), number)


def _words(pid: int) -> list[str]:
    """The command line of a process; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parent_of(pid: int) -> int:
    """The parent of a process; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
