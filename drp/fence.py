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
from collections.abc import Collection, Iterable, Iterator
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

TEMPORARY = "It cannot be read back while the stage works: write temporary files to a temporary folder (tempfile)"
"""The cure where a stage reads what it made in its project, which the kernel cannot be told to allow."""
READERS = ("numpy", "pandas", "torch")
"""Packages that read what they are told to, as Python's own library does, and nothing of their own."""

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
        real = os.path.realpath(path)
        if self._declared.has(path, real) or self._free(path, real):
            return None
        inside = [p for p in (path, real) if _within(p, self._roots)]
        here, line = _reader(frame, self)
        if inside:
            if (here != "project" and all(map(self._own.has, inside))) or any(map(self._environment, inside)):
                return None
        elif here != "project" or _for_itself(frame, self):
            return None
        if not os.path.isfile(real):  # nothing is learnt from a folder's descriptor, or from what is not there
            return None
        return self._said(path, line)

    def denied(self, error: BaseException | None, made: Collection[str] = ()) -> str | None:
        """What to say where an error, or one that it came from, is the kernel's refusal of an undeclared file of the project;
        `made`: real paths of what this process made."""
        for each in _chain(error):
            for path in _refused(each, made):
                real = os.path.realpath(path := os.path.abspath(path))
                there = isinstance(each, PermissionError) or os.path.isfile(real)
                if there and real in made and _within(real, self._roots):
                    return f"{self._read(path)}, which it made itself; nothing was published. {TEMPORARY}"
                if self._undeclared(path, real):
                    return self._said(path)
            if isinstance(each, PermissionError) and _from_elsewhere(each.filename):
                return self._said(each.filename)
        return None

    def replaced(self, error: BaseException | None) -> str | None:
        """The path of an input, or of what is drp's own, that an error names and that the kernel refuses, being a new file."""
        for path in (path for each in _chain(error) for path in _refused(each, ())):
            real = os.path.realpath(path := os.path.abspath(path))
            known = self._declared.has(path, real) or self._own.has(path, real)
            if known and _within(real, self._roots) and os.path.isfile(real) and os.access(real, os.R_OK):
                try:
                    os.close(os.open(real, os.O_RDONLY))
                except PermissionError:
                    return self._shown(path)
        return None

    def keeps(self, real: str) -> bool:
        """Whether it matters who made a file at this real path: elsewhere all may be read."""
        return not self._declared.has(real) and not self._free(real, real)

    def _undeclared(self, path: str, real: str) -> bool:
        inside = _within(path, self._roots) or _within(real, self._roots)
        closed = inside and not self._declared.has(path, real) and not self._own.has(path, real)
        return closed and not self._free(path, real) and os.path.isfile(real)

    def _free(self, path: str, real: str) -> bool:
        """Whether it lies where nobody's data is: by where links lead if that is the project, or where anybody makes links."""
        if _within(real, self._roots):
            return self._inner.has(real)
        return self._system.has(real) or (self._system.has(path) and not self._linking.has(path))

    def _read(self, path: str, line: str = "") -> str:
        shown = self._shown(path)
        if shown == path and (leads := self._shown(os.path.realpath(path))) != os.path.realpath(path):
            shown = f"{path} ({leads})"
        return f"{self.stage}: {line or 'its op'} reads {shown}"

    def _shown(self, path: str) -> str:
        """The path from the project's root where it is in the project."""
        return next((os.path.relpath(path, root) for root in self._roots if _within(path, (root,))), path)

    def _said(self, path: str, line: str = "") -> str:
        return f"{self._read(path, line)}, which is not an input of this stage; nothing was published. {CURE}"

    @cached_property
    def _roots(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.root, os.path.realpath(self.root))))

    @cached_property
    def _declared(self) -> "_Places":
        return _Places([*self.declared, *self.work])

    @cached_property
    def _inner(self) -> "_Places":
        """Places of the system that the project does not lie in."""
        return _Places(p for p in self.system if not any(_within(root, _both(p)) for root in self._roots))

    @cached_property
    def _linking(self) -> "_Places":
        """Places of the system where a link may lead to anything."""
        return _Places(["/proc", "/dev", "/run", "/tmp", "/var/tmp", tempfile.gettempdir()])

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


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, those that it groups, and those that it came from."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for part in error.exceptions:
                yield from _chain(part)
        error = error.__cause__ or error.__context__


def _refused(error: BaseException, made: Collection[str]) -> Iterator[str]:
    """The paths that an error names, if it may be the kernel's refusal; a child process's tells of it on stderr."""
    text = str(error)
    if isinstance(error, PermissionError | FileNotFoundError) or "ermission denied" in text:
        if isinstance(error, OSError) and isinstance(error.filename, str):
            yield error.filename
        yield from (next(filter(None, found.groups())) for found in _PATHS.finditer(text))
        yield from text.split()[-1:]
    if isinstance(told := getattr(error, "stderr", None), str | bytes):
        for line in os.fsdecode(told).splitlines():
            if "ermission denied" in line:
                yield from (word.strip("\"':,‘’") for word in line.split())
    if "unable to open database file" in text:  # SQLite names none
        yield from made


def _from_elsewhere(name: object) -> bool:
    """Whether a name of a file that a PermissionError tells is relative to another folder than this one."""
    if not isinstance(name, str) or os.path.isabs(name) or os.path.lexists(name):
        return False
    return os.access(os.path.dirname(os.path.abspath(name)), os.W_OK)  # else it may have been to be made here


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


def caches() -> tuple[str, ...]:
    """Where programs keep what they can make or fetch again."""
    told = (os.environ.get("XDG_CACHE_HOME") or "~/.cache", os.environ.get("HF_HOME") or "~/.cache")
    return tuple(dict.fromkeys(os.path.abspath(os.path.expanduser(path)) for path in told))


def system() -> tuple[str, ...]:
    """Folders that hold no data of anybody's: the system's, Python's, temporary files, caches of programs."""
    return (
        *("/dev", "/proc", "/sys", "/etc", "/usr", "/lib", "/lib64", "/run"), *_libraries(), tempfile.gettempdir(),
        *caches(),
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


@functools.cache
def _packages() -> tuple[str, ...]:
    """Where packages are that are not Python's own."""
    paths = sysconfig.get_paths()
    return tuple(dict.fromkeys([paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages()]))


def _for_itself(frame: types.FrameType | None, fence: Fence) -> bool:
    """Whether a package opens a file on its own account (its settings, its data), whoever called it."""
    while frame is not None:
        name = frame.f_code.co_filename
        if _within(name, (_DRP, *fence.code)):
            return False
        for folder in _packages():
            if _within(name, (folder,)):
                if os.path.relpath(name, folder).split(os.sep)[0] not in READERS:
                    return True
                break
        else:
            if _within(name, fence._roots) and not _within(name, _libraries()):
                return False
        frame = frame.f_back
    return False


# -- watching --------------------------------------------------------------------------------------------------------------


@dataclass
class _Watch:
    """What this process is held to, the first file that it opened all the same, and the real paths of those that it made."""

    fence: Fence | None = None
    found: str | None = None
    made: set[str] = field(default_factory=set)
    installed: bool = field(default=False)


_WATCH = _Watch()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Python's audit hook: raised here, an error is raised where the file is opened."""
    if _WATCH.fence is None or event not in ("open", "sqlite3.connect"):
        return
    if event == "open":
        name, mode, flags = arguments
        path = os.fsdecode(name) if isinstance(name, str | bytes) else None
        mode = mode if isinstance(mode, str) else ""
        makes, reads = _makes(mode, flags), _reads(mode, flags)
    else:
        path, makes, reads = _database(arguments[0]), "if missing", True
    if not path:
        return
    real = os.path.realpath(path) if makes or _WATCH.made else ""
    if makes and (makes == "anew" or not os.path.lexists(real)) and _WATCH.fence.keeps(real):
        _WATCH.made.add(real)
    if reads and real not in _WATCH.made and (refused := _WATCH.fence.refusal(path, sys._getframe(1))):
        _WATCH.found = _WATCH.found or refused
        raise UndeclaredRead(refused)


def _makes(mode: str, flags: int) -> Literal["anew", "if missing", ""]:
    """Whether the file that is opened is made by that."""
    if set(mode) & set("wx") or flags & os.O_TRUNC:
        return "anew"
    return "if missing" if "a" in mode or flags & os.O_CREAT else ""


def _reads(mode: str, flags: int) -> bool:
    """Whether what is in it can be read: `r+` reads, `w`, `x` and `a` (also with `+`) write."""
    writes = set(mode) & set("wxa") or flags & os.O_ACCMODE == os.O_WRONLY
    return not (writes or flags & os.O_TRUNC or flags & getattr(os, "O_PATH", 0))


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
    _WATCH.fence, _WATCH.found, _WATCH.made = fence, None, set()


def found(error: BaseException | None = None) -> str | None:
    """What is to be said of the first read that was refused so far, by Python (whoever swallowed that error has not undone it)
    or, where `error` tells of it, by the kernel."""
    if _WATCH.found is None and _WATCH.fence is not None:
        _WATCH.found = _WATCH.fence.denied(error, _WATCH.made)
    return _WATCH.found


def end() -> None:
    """Take the fence away."""
    _WATCH.fence, _WATCH.found, _WATCH.made = None, None, set()


def passed_on() -> dict[str, str]:
    """The environment by which a child process holds itself to the same fence (`inherit`)."""
    return {PASSED_ON: json.dumps(asdict(_WATCH.fence))} if _WATCH.fence else {}


def inherit() -> None:
    """Hold this process to its parent's fence, if that has one."""
    if told := os.environ.get(PASSED_ON):
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in json.loads(told).items()}
        begin(Fence(**plain))
