"""Whether stages, made anew from their inputs and stored completions, have the bytes that the locks name."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import zip_longest
from pathlib import Path

from drp.auditing.current import remakeable
from drp.auditing.finding import Check, Finding, Kind, Why
from drp.auditing.kept import cure
from drp.auditing.sums import AGAIN, Entry, Sums
from drp.errors import DataError
from drp.lineage.graph import MANIFEST, Node
from drp.lineage.tables import Tables
from drp.pipeline.rebuild import Rebuilt, rebuild
from drp.project import Project
from drp.records import read
from drp.store.peek import Peek

MOST = 4
"""Stages made anew at once."""


class Anew:
    """Rebuilds stages, a few at a time; `md5s` has what each file was made anew with."""

    def __init__(self, project: Project, sums: Sums, tables: Tables, stores: Mapping[Path, str], into: Path) -> None:
        self.project, self.sums, self.tables, self.stores, self.into = project, sums, tables, stores, into
        self.check = Check("rebuild", "stages made anew")
        self.md5s: dict[str, str] = {}
        self._rewritten: list[str] = []

    def _leave(self, entry: Entry, kind: Kind, short: str, why: Why) -> None:
        self.check.left[short] += 1
        self.check.findings.append(Finding(kind, entry.address, f"not rebuilt: {why.words}", why.cause))

    def look(self, entries: Iterable[Entry]) -> None:
        """Rebuild each stage and compare, or say why it cannot be."""
        with ThreadPoolExecutor(min(MOST, os.cpu_count() or 1)) as crew:
            begun: list[tuple[Entry, Future[Rebuilt]]] = []
            for entry in entries:
                if entry.node and entry.address in self.sums.away:
                    self.check.left["not here"] += 1
                elif entry.node and (reason := self._not(entry, entry.node)):
                    self._leave(entry, *reason)
                elif entry.node:
                    begun.append((entry, crew.submit(self._rebuild, entry)))
            for entry, done in begun:
                self._judge(entry, done.result())
                shutil.rmtree(self._folder(entry), ignore_errors=True)
        if self._rewritten:
            many = f"{len(self._rewritten)} of the files came out with the same rows in other bytes"
            self.check.note(self._rewritten[0], f"{many}: written by another pyarrow, or another drp, than is here")

    def _folder(self, entry: Entry) -> Path:
        return self.into / f"{entry.recipe}.{entry.slug}"

    def _rebuild(self, entry: Entry) -> Rebuilt:
        return rebuild(self.project, entry.recipe, entry.slug, self._folder(entry), self.stores)

    def _judge(self, entry: Entry, made: Rebuilt) -> None:
        if made.further and entry.node and (words := list(self._otherwise(entry, entry.node, made.further))):
            self.check.looked += 1
            self.check.faults(entry.address, words)
        elif made.state == "not-rebuilt":
            self._leave(entry, "skipped", "lacking completions" if made.missing else "lacking what it takes", Why(made.reason))
        elif made.state == "failed":
            self.check.fault(entry.address, f"cannot be made anew: {made.reason}")
        else:
            self.check.looked += 1
            for path, file in made.files.items():
                self._compare(entry, path, Path(file))
            for path in sorted(made.files.keys() ^ entry.lock.outs.keys()):
                told = "is made, but its lock does not name it" if path in made.files else "is not made, but its lock names it"
                self.check.fault(path, f"{told} ({entry.file}: {entry.slug}); `git checkout {entry.file}` brings the lock back")

    def _not(self, entry: Entry, node: Node) -> tuple[Kind, str, Why] | None:
        """Why a stage is not made anew: of what kind that is, a word for it, and the reason."""
        stage = self.sums.stages.get(entry.address)
        if node.frozen:
            return "skipped", "published", Why("its outcome is published (frozen), and was made elsewhere")
        if stage is None or stage.op.name != node.op:
            return "out of date", "out of date", Why("the recipe has no such stage now; `drp compile` says so to DVC")
        if reason := remakeable(self.sums, entry):
            kind, why = reason
            return kind, "out of date" if kind == "out of date" else "lacking inputs", why
        if not any(path.startswith((f"{stage.data}.", f"{stage.ref.report}.")) for path in entry.lock.outs):
            return "out of date", "out of date", Why(f"its files belong elsewhere now; {AGAIN}")
        if stage.op.makes_model:
            return "skipped", "training a model", Why("it trains a model, which no completion holds (nor its weights)")
        return None

    def _otherwise(self, entry: Entry, node: Node, further: Mapping[str, Sequence[str]]) -> Iterator[str]:
        """Of the records whose dialogues go on (`further`: what they were answered with before), those that were made from these
        very replies: each completion that the trail names was given, and then they were done."""
        for record, heard in further.items():
            cited = self._cited(node, record)
            if cited and cited <= {*heard}:
                last = next(key for key in reversed(heard) if key in cited)
                place, back = self._place(entry, last)
                yield (
                    f"its stored replies do not give the records that are here: {record} was made from completion {last}, but "
                    f"with the reply that {place} has there, more would have been asked; the reply was altered, or the record "
                    f"and its lock: {back}"
                )

    def _cited(self, node: Node, record: str) -> set[str]:
        """The completions that the trail of a record names."""
        if not (self.sums.sound(node) and self.tables.present(node, ".trail")):
            return set()
        return {row["completion"] for row in self.tables.trail(node, record, "completion") if row["completion"]}

    def _place(self, entry: Entry, key: str) -> tuple[str, str]:
        """Where a completion was taken from, and the cure where it is not what it was."""
        for path, name in self.stores.items():  # in the order in which the rebuild looks
            with closing(Peek(path)) as store:
                found = store.rows("select 1 from completions where key = ?", (bytes.fromhex(key),))
            if found and path != self.project.store:
                return name, cure(self.sums, name)
            if found:
                break
        again = f"`dvc repro -f -s recipes/{entry.recipe}/dvc.yaml:{entry.slug}`"
        return str(self.project.store), f"`drp cache forget --key {key} --yes`, then {again}, asks anew"

    def _compare(self, entry: Entry, path: str, made: Path) -> None:
        locked = entry.lock.outs.get(path)
        with made.open("rb") as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
        self.md5s[path] = md5
        if locked is None or md5 == locked.md5 or path in self.sums.altered:  # of these others say which it was
            return
        here = self.sums.snapshot.find(path, locked)
        if here is None:  # it may have been another writer of Parquet, which is in no fingerprint
            self.check.note(path, "made anew it has other bytes than its lock names; the file is not here to compare")
            return
        words, harmless = _difference(path, here, made)
        if not harmless:
            self.check.fault(
                path, f"made anew from its inputs and completions it has md5 {md5}, not {locked.md5}{words}: file and lock, or a "
                "stored reply, were altered, or its op is not the same each time; `dvc repro -f -s "
                f"recipes/{entry.recipe}/dvc.yaml:{entry.slug}` makes it as it should be"
            )  # fmt: skip
        elif words:
            self.check.note(path, words)
        else:
            self._rewritten.append(path)


def _difference(path: str, here: Path, made: Path) -> tuple[str, bool]:
    """How a file differs from what was made anew, and whether that is only by what wrote it: other packages, the same rows."""
    if path.endswith(MANIFEST):
        one, other = (json.loads(p.read_text(encoding="utf-8")) for p in (here, made))
        keys = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
        if keys == ["packages"]:
            return f"made with other packages than are here: {', '.join(_versions(one['packages'], other['packages']))}", True
        return f" ({', '.join(keys)} differ)", False
    first = _first(here, made) if path.endswith(".parquet") else ""
    return ("", True) if first is None else (f", and differs first at {first}" if first else "", False)


def _versions(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            yield f"{name} {then.get(name, '(none)')} then, {now.get(name, '(none)')} now"


def _first(one: Path, other: Path) -> str | None:
    """The id of the first record in which two files differ; None where all rows and columns are equal."""
    import pyarrow.parquet as pq

    try:
        if not pq.read_schema(one).equals(pq.read_schema(other), check_metadata=True):
            return "its columns, or what stands once for all rows"
        for left, right in zip_longest(read(one), read(other)):
            if left != right:
                row = left or right or {}
                return str(row.get("id") or row.get("record"))
    except DataError as error:
        return str(error)
    return None
