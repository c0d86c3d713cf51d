"""Rehearses the stages that will run: their ops ask as always, the store alone answers, and what it lacks is counted."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

from drp.asking import Asking
from drp.backends import Answer, Ask
from drp.errors import DataError, DrpError
from drp.models import Completion, Endpoint, Model, Request
from drp.money.purse import Bound
from drp.op import Dialogue, Report, Talk
from drp.pipeline import oplock
from drp.pipeline.calling import Call, Rows
from drp.pipeline.locked import Made
from drp.pipeline.work import WINDOW
from drp.planning.forecast import Fate, Forecast
from drp.planning.why import Input, Upstream
from drp.project import Project
from drp.recipe.binding import model as bind
from drp.recipe.stages import Ref, RoleUse, Stage
from drp.records import Kept, Outcome, Record, arrow
from drp.sources import scheme_of
from drp.store.completions import Store
from drp.store.stored import BURST

Basis = Literal["exact", "present", "none"]
"""What a rehearsal went by: the very records that the stage will read (or those of them that can be known); the present
outputs of stages that will be made anew; or nothing, for there are none."""
ORDER: tuple[Basis, ...] = ("exact", "present", "none")
UNKNOWN = Completion("", "error", error="not in the store: a plan asks nobody")
MADE_UP = (ArithmeticError, AssertionError, AttributeError, DrpError, LookupError, RuntimeError, TypeError, ValueError)
"""What an op's own code may raise on an answer that nobody gave (`json.loads("")`), or on records of an earlier make, which
lack what the next ones will have. It says nothing of the op: with real answers it would not have come to this."""
JOINS = ("load", "mix", "segment", "edit", "reassemble", "generate")
"""drp's own ops that make the same of the same records, at no cost but the model's: their outputs need not be there."""


@dataclass
class Count:
    """What one model would be asked: requests that the store lacks, and those that it has; characters of their prompts.

    `dearest`: tokens of the longest new prompt at the worst, as the budget takes it when a stage starts.
    `remade`: the model itself will be trained anew, so that nothing may be in the store.
    """

    new: int = 0
    stored: int = 0
    new_chars: int = 0
    chars: int = 0
    dearest: float = 0.0
    remade: bool = False


@dataclass
class Rehearsal:
    """What came of rehearsing a stage: what each model would be asked.

    `read` counts the records that it was given, `pending` those that it will be given, but are not known yet; `unknown`
    those that it makes in turn, and what they are hangs on answers that nobody has given.
    """

    counts: dict[Model, Count] = field(default_factory=lambda: defaultdict(Count))
    read: int = 0
    pending: int = 0
    unknown: int = 0
    basis: Basis = "exact"
    note: str = ""

    @property
    def new(self) -> int:
        """Requests that will be sent, if every reply can be used (at least)."""
        return sum(count.new for count in self.counts.values())

    @property
    def stored(self) -> int:
        """Requests that the store answers."""
        return sum(count.stored for count in self.counts.values())

    def most(self, model: Model) -> int:
        """As many may be new, where what it goes by may change."""
        count = self.counts[model]
        all_ = count.new + count.stored if self.basis == "present" or count.remade else count.new
        each = (count.new + count.stored) / self.read if self.read else 1.0
        return all_ + round(self.pending * each)


class Source:
    """The records of a stage as they will be; every loop makes them anew.

    After a loop, `given` counts them, `unknown` those that cannot be known yet, and `basis` says what all this goes by.
    """

    def __init__(self, make: Callable[["Source"], Iterable[Record]], basis: Basis = "exact") -> None:
        self._make, self.basis = make, basis
        self.given = self.unknown = 0

    def __iter__(self) -> Iterator[Record]:
        self.given = self.unknown = 0
        for record in self._make(self):
            self.given += 1
            yield record


class Probe:
    """Rehearses stages; each is counted once, however many others read it."""

    def __init__(self, project: Project, forecast: Forecast, store: Store | None, params: dict[str, Any]) -> None:
        self.project, self.forecast, self.store, self.params = project, forecast, store, params
        self.rehearsals: dict[Ref, Rehearsal] = {}
        self._sent: set[int] = set()  # by the first half of their keys: what an earlier stage will have asked

    def rehearse(self, stage: Stage) -> Rehearsal:
        """What its requests would be; a note where that cannot be said."""
        if stage.ref not in self.rehearsals:
            try:
                for _ in self._outcomes(stage, Rehearsal()):
                    pass
            except DrpError as error:
                self.rehearsals[stage.ref] = Rehearsal(basis="none", note=str(error))
            except MADE_UP as error:  # the op's code, on records that may not be those that it will read
                note = f"an op's code failed on what is there now: {type(error).__name__}: {error}"
                self.rehearsals[stage.ref] = Rehearsal(basis="none", note=note)
        return self.rehearsals[stage.ref]

    def new(self, keys: Iterable[int]) -> None:
        """These will have been asked."""
        self._sent.update(keys)

    def sent(self, key: int) -> bool:
        """Whether a stage that was rehearsed before will ask this."""
        return key in self._sent

    # -- records that are still to be made -----------------------------------------------------------------------------

    def source(self, ref: Ref) -> Source:
        """The records that the stage will have made when its readers run, as far as that can be known."""
        path = f"{ref.data}.parquet"
        there = self.project.root / path
        fate = self.fate(ref)
        if fate is None or not fate.open:
            known = fate.made.get(path) if fate else None
            rows = Rows(self.forecast.files.object(known) if known else there)
            return Source(lambda _: rows)
        stage = fate.entry.stage
        if stage is not None and self._simple(stage):
            return self._simulated(stage)
        if stage is not None and (judged := self._judged(fate, stage)):
            return judged
        return Source(lambda _: Rows(there), "present") if there.exists() else Source(lambda _: (), "none")

    def fate(self, ref: Ref) -> Fate | None:
        """What becomes of a stage."""
        return self.forecast.fates.get(f"{ref.recipe}/{ref.slug}")

    def _simple(self, stage: Stage) -> bool:
        op = stage.op
        if op.makes_model or op.reports or "verifier" in op.options:
            return False
        if op.name == "load" and scheme_of(str(stage.options().get("source"))) == "hf":
            return False
        return asks(stage) or op.module in {f"drp.ops.{name}" for name in JOINS}

    def _simulated(self, stage: Stage) -> Source:
        columns = dict.fromkeys(get_type_hints(stage.op.adds)) if stage.op.adds else {}

        def records(source: Source) -> Iterator[Record]:
            rehearsal = Rehearsal()
            made = ({**columns, **o.record} for o in self._outcomes(stage, rehearsal) if isinstance(o, Kept))
            yield from sorted(made, key=lambda r: str(r["id"])) if stage.op.takes == "none" else made
            source.unknown, source.basis = rehearsal.unknown + rehearsal.pending, rehearsal.basis

        return Source(records)

    def _judged(self, fate: Fate, stage: Stage) -> Source | None:
        """Of an op that only judges records, one by one, as it did before: what it kept of those that come to it unchanged.

        All others are unknown. None where the op is another or has changed, or its last input or output is gone.
        """
        lock = fate.entry.lock
        if lock is None or stage.op.module != "drp.ops.verify":
            return None
        read, made = f"{stage.inputs[0].data}.parquet", f"{stage.ref.data}.parquet"
        before, kept = self._as_locked(read, lock.deps), self._as_locked(made, lock.outs)
        fed = all(isinstance(r, Upstream) or (isinstance(r, Input) and r.path == read) for r in fate.reasons)
        if not fed or before is None or kept is None:
            return None

        def records(source: Source) -> Iterator[Record]:
            now, then, judged = self.source(stage.inputs[0]), _Sorted(before), _Sorted(kept)
            for record in now:
                if not _same(record, then.find(record["id"])):
                    source.unknown += 1
                elif found := judged.find(record["id"]):
                    yield found
            source.unknown += now.unknown
            source.basis = now.basis

        return Source(records)

    def _as_locked(self, path: str, of: dict[str, Made]) -> Path | None:
        """The file as it was when the stage last ran: in its place, or in DVC's cache."""
        files = self.forecast.files
        if path in of and files.md5(path) == of[path].md5:
            return self.project.root / path
        return files.object(of[path].md5) if path in of and files.cached(of[path].md5) else None

    # -- asking --------------------------------------------------------------------------------------------------------

    def _outcomes(self, stage: Stage, rehearsal: Rehearsal) -> Iterator[Outcome]:
        call = _Call(self, stage)
        work = _Work(self, stage, rehearsal)
        result = call(work)
        if not isinstance(result, Report):
            yield from result
        rehearsal.basis = max((s.basis for s in call.sources), key=ORDER.index, default="exact")
        rehearsal.pending = sum(source.unknown for source in call.sources)
        rehearsal.read = sum(source.given for source in call.sources)
        if stage.ref not in self.rehearsals:
            self.rehearsals[stage.ref] = rehearsal
            self.new(work.keys)


def asks(stage: Stage) -> bool:
    """Whether a stage asks models (and does not train one)."""
    return bool(stage.models) and not stage.op.makes_model and not stage.op.reports


class _Call(Call):
    """A call that reads what will be there, and whose models are never reached."""

    def __init__(self, probe: Probe, stage: Stage) -> None:
        super().__init__(probe.project, stage, probe.params)
        self.probe = probe
        self.sources: list[Source] = []

    def rows(self, ref: Ref) -> Iterable[Record]:
        source = self.probe.source(ref)
        if source.basis == "present" and (lacks := set(self.stage.op.needs) - _columns(path := self._path(ref))):
            raise DataError(f"{path} will be made anew, and as it is it lacks {', '.join(map(repr, sorted(lacks)))}")
        self.sources.append(source)
        return source

    def _path(self, ref: Ref) -> Path:
        return self.project.root / f"{ref.data}.parquet"

    def model(self, use: RoleUse) -> Model:
        entry = self.params.get("models", {}).get(use.role, {})
        if use.stage is None and entry.get("name") == oplock.RULES:  # as it will be compiled
            built = bind(self.params, use.role, self.probe.forecast.entries.ops[oplock.RULES].fingerprint)
        else:
            built = super().model(use)
        return replace(built, endpoint=Endpoint("rules"))


class _Work:
    """What `drp.op.Work` promises, but for folders: it asks the store."""

    def __init__(self, probe: Probe, stage: Stage, rehearsal: Rehearsal) -> None:
        self.probe, self.stage, self.rehearsal = probe, stage, rehearsal
        self.keys: set[int] = set()

    @property
    def out(self) -> Path:
        """There is none."""
        raise DataError(f"{self.stage.op.name} writes files: what it asks cannot be known before it runs")

    resume = out

    def say(self, text: str) -> None:
        """Nobody watches."""

    def ask(self, model: Model, records: Iterable[Record], dialogue: Dialogue) -> Iterator[Outcome]:
        """Hold the dialogues as far as the store has answers."""
        self.rehearsal.counts[model].remade = self._remade(model)
        outcomes = Asking(_Answers(self, model), WINDOW).run(records, lambda record: self._watched(dialogue(record)))
        if "verifier" not in self.stage.op.options:
            return outcomes
        for _ in outcomes:  # what it would judge now, at some cost, asks nobody
            pass
        return iter(())

    def _watched(self, talk: Talk) -> Talk:
        """The same conversation; what came of an answer that nobody gave is not an outcome."""
        missed = False
        try:
            requests = next(talk)
            while True:
                completions = yield requests
                missed = missed or any(completion is UNKNOWN for completion in completions)
                requests = talk.send(completions)
        except StopIteration as stop:
            outcomes: Outcome | list[Outcome] = stop.value
        except MADE_UP:
            if not missed:
                raise
            self.rehearsal.unknown += 1
            return []
        if not missed:
            return outcomes
        several = outcomes if isinstance(outcomes, list) else []
        answered: list[Outcome] = [o for o in several if isinstance(o, Kept)] if self.stage.op.makes_records else []
        self.rehearsal.unknown += max(1, len(several)) - len(answered)
        return answered

    def _remade(self, model: Model) -> bool:
        used = [use for use in self.stage.uses() if use.role == model.role and use.stage]
        return any((fate := self.probe.fate(u.stage)) is not None and fate.open for u in used if u.stage)


class _Answers:
    """A backend that answers from the store, and says of all else that it is unknown."""

    def __init__(self, work: _Work, model: Model) -> None:
        self.work, self.count, self.bound = work, work.rehearsal.counts[model], Bound()

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """At once."""
        burst: list[Answer] = []
        for ask in asks:
            if ask is not None:
                burst.append(Answer(ask.ticket, self._answer(ask.request)))
            if ask is None or len(burst) >= BURST:
                yield burst
                burst = []
        yield burst

    def _answer(self, request: Request) -> Completion:
        chars, store = sum(len(m.content) for m in request.messages), self.work.probe.store
        self.count.chars += chars
        if found := store.get(request) if store else None:
            self.count.stored += 1
            return found
        key = int(request.key()[:16], 16)
        if key in self.work.keys or self.work.probe.sent(key):
            self.count.stored += 1  # by then
        else:
            self.work.keys.add(key)
            self.count.new += 1
            self.count.new_chars += chars
            self.count.dearest = max(self.count.dearest, self.bound.prompt(request))
        return UNKNOWN


class _Sorted:
    """A file of records in the order of their ids, searched forwards."""

    def __init__(self, path: Path) -> None:
        self._rows = iter(Rows(path))
        self._here: Record | None = next(self._rows, None)

    def find(self, id_: str) -> Record | None:
        """The record with this id, later than the last one that was asked for."""
        while self._here is not None and self._here["id"] < id_:
            self._here = next(self._rows, None)
        return self._here if self._here is not None and self._here["id"] == id_ else None


def _columns(path: Path) -> set[str]:
    """The names of a file's columns."""
    arrow()
    import pyarrow.parquet as pq

    return set(pq.read_schema(path).names)


def _same(record: Record, before: Record | None) -> bool:
    """Whether nothing differs; columns without a value are as good as absent."""
    if before is None:
        return False
    return all(before.get(k) == record.get(k) for k in {**record, **before})
