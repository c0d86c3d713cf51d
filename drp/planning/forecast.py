"""What DVC will do with each stage, in its order: run it, perhaps run it, bring it back from its cache, or nothing."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from drp.pipeline.locked import Files, Lock
from drp.planning.entries import ABSENT, Entries, Entry
from drp.planning.why import Judge, Output, Reason, Upstream
from drp.store.completions import Store

State = Literal["will run", "may run", "from cache", "up to date", "frozen"]
"""May run: only if what it is made from comes out with other bytes. From cache: DVC's run cache has the outcome."""
OPEN: tuple[State, ...] = ("will run", "may run")


@dataclass
class Fate:
    """A stage, what becomes of it, and why. `made` is what its outputs will be, where that is known."""

    entry: Entry
    state: State
    reasons: list[Reason] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Whether it may be made anew."""
        return self.state in OPEN


class Forecast:
    """The fates of stages by address, inputs before users."""

    def __init__(self, entries: Entries, files: Files, store: Store | None) -> None:
        self.entries, self.files = entries, files
        self.fates: dict[str, Fate] = {}
        self._judge = Judge(entries, files, store)

    def of(self, recipe: str | None = None) -> list[Fate]:
        """Those of one recipe, with everything that it is made from; or of all."""
        wanted = [e for e in self.entries.all.values() if recipe in (None, e.recipe)]
        for entry in wanted:
            self._visit(entry)
        return list(self.fates.values())

    def _visit(self, entry: Entry) -> None:
        stack, begun = [(entry, False)], set[str]()  # what DVC would refuse as a cycle does not go round here for ever
        while stack:
            here, ready = stack.pop()
            if here.address in self.fates:
                continue
            if ready or here.frozen:
                self.fates[here.address] = self._fate(here)
                continue
            if here.address in begun:
                continue
            begun.add(here.address)
            stack.append((here, True))
            stack += [(up, False) for up in reversed(self._upstream(here)) if up.address not in self.fates]

    def _upstream(self, entry: Entry) -> list[Entry]:
        found = [up for path in entry.deps for up in self.entries.makers_of(entry.at(path))]
        return [up for up in found if up is not entry]

    def _fate(self, entry: Entry) -> Fate:
        if entry.frozen:
            reasons = self._judge.outputs(entry)
            return Fate(entry, "frozen", [r for r in reasons if isinstance(r, Output) and r.fate == "missing"])
        pending = {path: names for path in map(entry.at, entry.deps) if (names := self._pending(entry, path))}
        reasons = self._judge.reasons(entry, self.known, set(pending))
        waits = [Upstream(tuple(dict.fromkeys(name for names in pending.values() for name in names)))] if pending else []
        if pending:
            lost = bool(reasons) and all(isinstance(r, Output) and r.fate != "new" for r in reasons)
            either = not reasons or (lost and self._whole(entry.lock))
            return Fate(entry, "may run" if either else "will run", [*reasons, *waits])
        if not reasons:
            return Fate(entry, "up to date")
        if lock := self._restored(entry, reasons):
            return Fate(entry, "from cache", reasons, {entry.at(path): made.md5 for path, made in lock.outs.items()})
        return Fate(entry, "will run", reasons)

    def _pending(self, entry: Entry, path: str) -> list[str]:
        """The stages because of which it is not known what will be there when the stage's turn comes."""
        fates = [self.fates[up.address] for up in self.entries.makers_of(path) if up is not entry and up.address in self.fates]
        return [f.entry.address for f in fates if f.open or (f.made and path not in f.made)]

    def known(self, path: str) -> str | None:
        """The hash that a path has, or will have when what comes from DVC's cache is back."""
        maker = self.entries.maker(path)
        fate = self.fates.get(maker.address) if maker else None
        return fate.made[path] if fate and path in fate.made else self.files.md5(path)

    def _whole(self, lock: Lock | None) -> bool:
        """Whether DVC's cache has all that was made."""
        return lock is not None and all(self.files.cached(made.md5) for made in lock.outs.values())

    def _restored(self, entry: Entry, reasons: Iterable[Reason]) -> Lock | None:
        """What DVC brings back instead of running the stage."""
        if entry.always or not entry.outs or not (entry.deps or entry.params):
            return None
        if entry.lock and all(isinstance(r, Output) and r.fate != "new" for r in reasons):
            return entry.lock if self._whole(entry.lock) else None
        deps = {path: self.known(entry.at(path)) for path in entry.deps}
        values = self.entries.values(entry)
        if None in deps.values() or ABSENT in values.values():
            return None
        return self.files.remembered(entry.cmd, {p: h for p, h in deps.items() if h}, values, entry.outs)
