"""Landlock: the kernel keeps this process, and every child of it, from reading files that are not named to it (Linux)."""

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls
_VERSION, _PATH_BENEATH, _NO_NEW_PRIVS = 1, 1, 38
_READ_FILE, _REFER = 1 << 2, 1 << 13
"""Opening a file to read; giving a file a name in another folder, which Landlock refuses wherever it is not asked not to."""
_LEAST = 2
"""The first version that can be asked not to refuse renames."""
MOST = 20_000
"""Folders beside the project's own that are looked at: where there are more, the kernel is not asked."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled", ctypes.c_uint64),)


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


class Unfit(Exception):
    """The kernel, or the place of the project, does not let reads be restricted."""


def available() -> bool:
    """Whether this kernel has it."""
    if sys.platform != "linux":
        return False
    try:
        return _call(_CREATE, None, 0, _VERSION) >= _LEAST
    except OSError:
        return False


def around(root: Path) -> Iterator[str]:
    """Everything that is not below `root`: of each folder above it, all that does not lead to it.

    What is made there later, right in one of these folders, is not among it. Unfit where a folder cannot be listed, holds too
    many names, or there is nothing but the root.
    """
    here = root.resolve()
    if here == here.parent:
        raise Unfit(f"{here}: everything is below it")
    seen = 0
    while here != here.parent:
        try:
            with os.scandir(here.parent) as entries:
                for entry in entries:
                    seen += 1
                    if entry.name != here.name and not entry.is_symlink():  # where a link leads to is named elsewhere
                        yield entry.path
        except OSError as error:
            raise Unfit(str(error)) from error
        if seen > MOST:
            raise Unfit(f"{here.parent}: more than {MOST} names")
        here = here.parent


def restrict(readable: Iterable[str]) -> None:
    """From here on, let this thread and what it starts open only these files, and those below these folders, to read.

    It cannot be undone. What is open stays open; writing, listing, renaming are as before. Unfit where the kernel refuses.
    """
    try:
        rules = _call(_CREATE, ctypes.byref(_Ruleset(_READ_FILE | _REFER)), ctypes.sizeof(_Ruleset), 0)
    except OSError as error:
        raise Unfit(str(error)) from error
    try:
        _allow(rules, os.sep, _REFER)
        for path in readable:
            _allow(rules, path, _READ_FILE)
        if _libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise Unfit("no_new_privs is refused")
        _call(_RESTRICT, rules, 0)
    except OSError as error:
        raise Unfit(str(error)) from error
    finally:
        os.close(rules)


def _allow(rules: int, path: str, access: int) -> None:
    try:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):  # gone meanwhile, or not ours to reach: then nobody reads it
        return
    try:
        _call(_ADD, rules, _PATH_BENEATH, ctypes.byref(_Beneath(access, folder)), 0)
    finally:
        os.close(folder)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    """A system call; OSError where it fails."""
    whole = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = _libc().syscall(ctypes.c_long(number), *whole)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)
