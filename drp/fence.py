"""The fence: which files the code of a stage may open to read, and what it says to one that opens another."""

import functools
import json
import os
import re
import site
import sys
import sysconfig
import tempfile
import types
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from drp.errors import UndeclaredRead

PASSED_ON = "DRP_FENCE"
"""The variable by which a worker process is told of its parent's fence."""
CODE = (".py", ".pyc", ".pyi", ".so", ".pth")
"""Endings of code, which has its own fingerprint."""
CURE = "Declare it: a file by an option of type Source, records by `from` or an option of type Inputs, text by a prompt's include"

Reader = Literal["drp", "project", ""]
"""Whose code opens a file, libraries apart; "" where nobody's is to be seen (a thread of a library)."""


@dataclass(frozen=True)
class Fence:
    """What a stage may read. All paths are absolute.

    `declared`: its inputs. `work`: where it writes itself. `own`: what only drp reads for it (locks, the completion store,
    params.yaml). `code`: folders outside the project whose code is the stage's own (a verifier `module:function`). `system`:
    where nobody's data is; what of it the project lies in does not count there.
    """

    stage: str
    root: str
    declared: tuple[str, ...] = ()
    work: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    system: tuple[str, ...] = ()

    def refusal(self, opened: str, frame: types.FrameType | None) -> str | None:
        """Why this file must not be read by the code that runs in this frame, or None where it may."""
        if _is_code(opened):
            return None
        path = os.path.normpath(os.path.join(os.getcwd(), opened))
        if self._declared.has(path):
            return None
        real = os.path.realpath(path)
        if self._declared.has(real):
            return None
        inside = [p for p in (path, real) if _within(p, self._roots)]
        here, line = _reader(frame, self)
        if inside:
            if (here != "project" and all(map(self._own.has, inside))) or any(map(self._environment, inside)):
                return None
        elif here != "project" or self._system.has(path, real):
            return None
        if not os.path.isfile(real):  # nothing is learnt from a folder's descriptor, or from what is not there
            return None
        return self._said(path, line)

    def denied(self, error: BaseException | None) -> str | None:
        """What to say where an error, or one that it came from, is the kernel's refusal of an undeclared file of the project."""
        while error is not None:
            if isinstance(error, PermissionError | FileNotFoundError) or "ermission denied" in str(error):
                for path in _named(error):
                    if self._undeclared(path := os.path.abspath(path)):
                        return self._said(path)
            error = error.__cause__ or error.__context__
        return None

    def _undeclared(self, path: str) -> bool:
        real = os.path.realpath(path)
        inside = _within(path, self._roots) or _within(real, self._roots)
        return inside and not self._declared.has(path, real) and not self._own.has(path, real) and os.path.isfile(real)

    def _said(self, path: str, line: str = "") -> str:
        shown = os.path.relpath(path, self.root) if _within(path, self._roots) else path
        return (
            f"{self.stage}: {line or 'its op'} reads {shown}, which is not an input of this stage; nothing was published. {CURE}"
        )

    @cached_property
    def _roots(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.root, os.path.realpath(self.root))))

    @cached_property
    def _declared(self) -> "_Places":
        inner = [p for p in self.system if not any(_within(root, _both(p)) for root in self._roots)]
        return _Places([*self.declared, *self.work, *inner])

    @cached_property
    def _own(self) -> "_Places":
        return _Places(self.own)

    @cached_property
    def _system(self) -> "_Places":
        return _Places(self.system)

    def _environment(self, path: str) -> bool:
        """Whether it lies in a virtual environment."""
        return any((folder / "pyvenv.cfg").exists() for folder in Path(path).parents if _within(str(folder), self._roots))


class _Places:
    """Files and folders, by their names and by where links lead."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = frozenset(p for path in paths for p in _both(path))

    def has(self, *paths: str) -> bool:
        """Whether one of these is among them, or below one."""
        return any(_within(path, self.paths) for path in paths)


_PATHS = re.compile(r"""'([^']+)'|"([^"]+)"|(/[^\s'":]+)""")


def _named(error: BaseException) -> Iterator[str]:
    """The paths that an error names."""
    if isinstance(error, OSError) and isinstance(error.filename, str):
        yield error.filename
    text = str(error)
    yield from (next(filter(None, found.groups())) for found in _PATHS.finditer(text))
    yield from text.split()[-1:]


def _both(path: str) -> tuple[str, str]:
    return os.path.normpath(path), os.path.realpath(path)


def _within(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place.rstrip(os.sep) + os.sep) for place in places)


def _is_code(path: str) -> bool:
    folder, name = os.path.split(path)
    return name.endswith(CODE) or ".so." in name or "__pycache__" in folder or folder.endswith((".egg-info", ".dist-info"))


@functools.cache
def _libraries() -> tuple[str, ...]:
    """Where Python and its packages are."""
    paths = sysconfig.get_paths()
    found = (sys.prefix, sys.base_prefix, paths["stdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages())
    return tuple(dict.fromkeys([*found, site.getusersitepackages()]))


def system() -> tuple[str, ...]:
    """Folders that hold no data of anybody's: the system's, Python's, temporary files, caches of programs."""
    caches = (os.environ.get("XDG_CACHE_HOME") or "~/.cache", os.environ.get("HF_HOME") or "~/.cache")
    return (
        *("/dev", "/proc", "/sys", "/etc", "/usr", "/lib", "/lib64", "/run"), *_libraries(), tempfile.gettempdir(),
        *(os.path.expanduser(path) for path in caches),
    )  # fmt: skip


_DRP = os.path.dirname(os.path.abspath(__file__))


def _reader(frame: types.FrameType | None, fence: Fence) -> tuple[Reader, str]:
    """Whose code the nearest frame is that is no library's, and its `file:line` where it is the project's."""
    while frame is not None:
        name = frame.f_code.co_filename
        if _within(name, (_DRP,)):
            return "drp", ""
        if _within(name, fence.code) or (_within(name, fence._roots) and not _within(name, _libraries())):
            shown = os.path.relpath(name, fence.root) if _within(name, fence._roots) else name
            return "project", f"{shown}:{frame.f_lineno}"
        frame = frame.f_back
    return "", ""


# -- watching --------------------------------------------------------------------------------------------------------------


@dataclass
class _Watch:
    """What this process is held to, and the first file that it opened all the same."""

    fence: Fence | None = None
    found: str | None = None
    installed: bool = field(default=False)


_WATCH = _Watch()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Python's audit hook: raised here, an error is raised where the file is opened."""
    if _WATCH.fence is None or event not in ("open", "sqlite3.connect"):
        return
    path = _opened(arguments) if event == "open" else _database(arguments[0])
    if path and (refused := _WATCH.fence.refusal(path, sys._getframe(1))):
        _WATCH.found = _WATCH.found or refused
        raise UndeclaredRead(refused)


def _opened(arguments: tuple[Any, ...]) -> str | None:
    """The file that is opened, if what is in it can be read: `r+` reads, `w`, `x` and `a` (also with `+`) write."""
    path, mode, flags = arguments
    if not isinstance(path, str | bytes):
        return None
    if isinstance(mode, str) and set(mode) & set("wxa"):
        return None
    if flags & os.O_ACCMODE == os.O_WRONLY or flags & os.O_TRUNC or flags & getattr(os, "O_PATH", 0):
        return None
    return os.fsdecode(path)


def _database(name: Any) -> str | None:
    if not isinstance(name, str | bytes | os.PathLike):
        return None
    path = os.fsdecode(name)
    return unquote(urlsplit(path).path) if path.startswith("file:") else path


def begin(fence: Fence) -> None:
    """Hold this process to a fence, until `end`."""
    if not _WATCH.installed:
        sys.addaudithook(_hook)
        _WATCH.installed = True
    _WATCH.fence, _WATCH.found = fence, None


def found(error: BaseException | None = None) -> str | None:
    """What is to be said of the first read that was refused so far, by Python (whoever swallowed that error has not undone it)
    or, where `error` tells of it, by the kernel."""
    if _WATCH.found is None and _WATCH.fence is not None:
        _WATCH.found = _WATCH.fence.denied(error)
    return _WATCH.found


def end() -> None:
    """Take the fence away."""
    _WATCH.fence = _WATCH.found = None


def passed_on() -> dict[str, str]:
    """The environment by which a child process holds itself to the same fence (`inherit`)."""
    return {PASSED_ON: json.dumps(asdict(_WATCH.fence))} if _WATCH.fence else {}


def inherit() -> None:
    """Hold this process to its parent's fence, if that has one."""
    if told := os.environ.get(PASSED_ON):
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in json.loads(told).items()}
        begin(Fence(**plain))
