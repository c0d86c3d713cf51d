"""Why a stage runs again, as values: which parameter from what to what, which code, which lines of a prompt, which file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from drp.pipeline import texts
from drp.pipeline.locked import Files, Lock
from drp.planning.entries import ABSENT, Entries, Entry
from drp.store.completions import Store

Fault = Literal["missing", "changed by hand", "not in DVC's cache", "new"]


@dataclass(frozen=True)
class Reason:
    """One reason; `kind` tells them apart in JSON."""

    kind: ClassVar[str] = ""

    def plain(self) -> dict[str, Any]:
        """As JSON; what is absent is left out."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"kind": self.kind, **{k: v for k, v in found.items() if v is not ABSENT and v is not None}}


@dataclass(frozen=True)
class New(Reason):
    """It never ran (here, or in what git has of its lock)."""

    kind: ClassVar[str] = "new"


@dataclass(frozen=True)
class Param(Reason):
    """A leaf of a tracked value; ABSENT where it was not there before, or is there no more."""

    kind: ClassVar[str] = "param"
    file: str
    key: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Code(Reason):
    """What an op (or the rules teacher, or a verifier) means: its declared version, or else its code."""

    kind: ClassVar[str] = "code"
    op: str
    what: Literal["version", "code"]
    old: str
    new: str


@dataclass(frozen=True)
class Prompt(Reason):
    """A prompt, or what it includes. `lines` is a unified diff, None where the old text is not to be found any more."""

    kind: ClassVar[str] = "prompt"
    path: str
    old: str
    new: str
    lines: tuple[str, ...] | None = None
    origin: texts.Origin | None = None


@dataclass(frozen=True)
class Input(Reason):
    """Another file that it is made from. `old` is null where it is a new input, `new` where there is no such file."""

    kind: ClassVar[str] = "input"
    path: str
    old: str | None
    new: str | None
    old_size: int | None = None
    new_size: int | None = None


@dataclass(frozen=True)
class Output(Reason):
    """An output is not what the stage made."""

    kind: ClassVar[str] = "output"
    path: str
    fate: Fault


@dataclass(frozen=True)
class Command(Reason):
    """The command of a hand-written stage."""

    kind: ClassVar[str] = "command"
    old: Any
    new: Any


@dataclass(frozen=True)
class Always(Reason):
    """A hand-written stage that runs each time."""

    kind: ClassVar[str] = "always"


@dataclass(frozen=True)
class Upstream(Reason):
    """Stages that it is made from will be made anew; where they come out with the same bytes, it is not."""

    kind: ClassVar[str] = "upstream"
    stages: tuple[str, ...]


Known = Callable[[str], str | None]
"""The hash that a path will have when the stage's turn comes; None where there will be nothing."""


class Judge:
    """Says why a stage is not up to date."""

    def __init__(self, entries: Entries, files: Files, store: Store | None) -> None:
        self.entries, self.files, self.store = entries, files, store

    def reasons(self, entry: Entry, known: Known, pending: set[str]) -> list[Reason]:
        """Everything that differs from the lock. Inputs that are `pending` (still to be made anew) are not looked at."""
        if entry.lock is None:
            missing = [p for p in map(entry.at, entry.deps) if p not in pending and known(p) is None]
            return [New(), *(Input(path, None, None) for path in missing)]
        found: list[Reason] = [Command(entry.lock.cmd, entry.cmd)] if entry.cmd != entry.lock.cmd else []
        found += self._params(entry, entry.lock)
        for path in entry.deps:
            if entry.at(path) not in pending:
                found += self._input(entry, entry.lock, path, known)
        if entry.always or not (entry.deps or entry.params or entry.outs):
            found.append(Always())
        return found + self.outputs(entry)

    def outputs(self, entry: Entry) -> list[Reason]:
        """What is wrong with what it made."""
        found: list[Reason] = []
        for path, cached in entry.outs.items():
            made, here = entry.lock.outs.get(path) if entry.lock else None, entry.at(path)
            fate: Fault | None = None
            if made is None:
                fate = None if entry.lock is None else "new"
            elif (now := self.files.md5(here)) != made.md5:
                fate = "missing" if now is None else "changed by hand"
            elif cached and not self.files.cached(made.md5):
                fate = "not in DVC's cache"
            if fate:
                found.append(Output(here, fate))
        return found

    def _params(self, entry: Entry, lock: Lock) -> Iterator[Reason]:
        values = self.entries.values(entry)
        gone = {place: ABSENT for place in lock.params if entry.op and place not in values}  # `drp compile` sees to that
        for (file, key), new in {**values, **gone}.items():
            old = lock.params.get((file, key), ABSENT)
            if new is ABSENT or old is ABSENT or new != old:
                if file.endswith("ops.lock.yaml"):
                    yield code(key.removesuffix(".fingerprint"), old, new)
                else:
                    yield from leaves(file, key, old, new)

    def _input(self, entry: Entry, lock: Lock, path: str, known: Known) -> Iterator[Reason]:
        old, here = lock.deps.get(path), entry.at(path)
        new = known(here)
        if new and old and old.md5 == new:
            return
        if new and old and here.startswith("prompts/"):
            former = texts.find(self.store, self.files.root, here, old.md5)
            now = (self.files.root / here).read_text(encoding="utf-8", errors="replace")
            lines = texts.changed_lines(here, former[0], now) if former else None
            yield Prompt(here, old.md5, new, lines, former[1] if former else None)
            return
        md5, size = (old.md5, old.size) if old else (None, None)
        yield Input(here, md5, new, size, self.files.size(here) if new else None)


def code(op: str, old: Any, new: Any) -> Code:
    """Fingerprints are `<version>-<code>`."""
    same = str(old).partition("-")[0] == str(new).partition("-")[0]
    return Code(op, "code" if same else "version", str(old), str(new))


def leaves(file: str, key: str, old: Any, new: Any) -> Iterator[Param]:
    """A changed value, down to what differs in it."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            if old.get(name, ABSENT) != new.get(name, ABSENT):
                yield from leaves(file, f"{key}.{name}", old.get(name, ABSENT), new.get(name, ABSENT))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (before, now) in enumerate(zip(old, new, strict=True)):
            if before != now:
                yield from leaves(file, f"{key}.{place}", before, now)
    else:
        yield Param(file, key, old, new)
