"""Makes a stage anew from its inputs and kept completions alone, in a folder of its own: nobody is asked, nothing noted."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from drp.asking import Asking
from drp.backends import Answer, Ask
from drp.errors import DataError, DrpError, MissingPackage, StaleCompile
from drp.models import Completion, Model, Request
from drp.mortality import die_with_parent
from drp.op import Dialogue, Talk
from drp.pipeline import oplock
from drp.pipeline.stage import Run, find
from drp.pipeline.work import WINDOW, Usage, usage_of
from drp.project import Project
from drp.recipe.stages import Stage
from drp.records import Outcome, Record
from drp.store.completions import Store, digest_of
from drp.store.peek import Peek
from drp.store.stored import BURST

RESULT = "rebuilt.json"
"""Where the process that rebuilds says what came of it."""
State = Literal["made", "not-rebuilt", "failed"]


@dataclass(frozen=True)
class Rebuilt:
    """What came of a rebuild: `files` by the paths that they have in the project; of all that was not made, why.

    not-rebuilt: what it takes is not here (completions, of which `missing` counts as many as were found out; inputs; the
    network; a package); `further` are the records of those completions that were asked for in the light of others, and the keys
    of these. failed: its op, or a read that is not declared, ended it.
    """

    state: State
    files: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    missing: int = 0
    further: dict[str, list[str]] = field(default_factory=dict)


class Unanswered(DrpError):
    """Completions that a stage was answered with are nowhere here."""

    def __init__(self, missing: int, further: dict[str, list[str]]) -> None:
        self.missing, self.further = missing, further
        many = f"{missing} completion{'s' if missing > 1 else ''}"
        super().__init__(f"not in the store: {many} missing (or more); `drp cache import FILE` brings those of who has paid")


class Unready(DrpError):
    """A stage that cannot be made anew here, for no fault of its own."""


def rebuild(project: Project, recipe: str, slug: str, into: Path, stores: Iterable[Path]) -> Rebuilt:
    """Rebuild a stage in a process of its own, held to the stage's inputs, answered from these completion stores (a file of
    `drp cache export` is imported into one first, which need not be the project's).

    `into` is an empty folder, or none yet. Inputs are read where they lie; nothing is written but below `into`.
    """
    into.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", __name__, str(project.root), recipe, slug, str(into), *map(str, stores)]
    done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False)
    result = into / RESULT
    if result.exists():
        return Rebuilt(**json.loads(result.read_text(encoding="utf-8")))
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return Rebuilt("failed", reason=f"it ended with {done.returncode}: {last}")


# -- in the process of its own ---------------------------------------------------------------------------------------------


def main(root: str, recipe: str, slug: str, into: str, *stores: str) -> None:
    """What the process does; what came of it is left in `into`."""
    die_with_parent()
    project, folder = Project(Path(root)), Path(into)
    try:
        made = Rebuilt("made", _made(project, recipe, slug, folder, [Path(store) for store in stores]))
    except Unanswered as error:
        made = Rebuilt("not-rebuilt", reason=str(error), missing=error.missing, further=error.further)
    except (Unready, MissingPackage, StaleCompile) as error:
        made = Rebuilt("not-rebuilt", reason=str(error))
    except DrpError as error:
        made = Rebuilt("failed", reason=str(error))
    (folder / RESULT).write_text(json.dumps(asdict(made)), encoding="utf-8")


def _made(project: Project, recipe: str, slug: str, into: Path, stores: Sequence[Path]) -> dict[str, str]:
    stage = find(project, recipe, slug)[1]
    if stage.op.makes_model:
        raise Unready("it trains a model, which no completion holds")
    for name in (stage.op.name, *oplock.custom(stage.options())):
        oplock.current(project, name)
    run = Run(project, stage, into / "part")
    if absent := [path for path, found in run.inputs.hashes.items() if found == "absent"]:
        raise Unready(f"its input {absent[0]} is not here; {project.brings('it', recipe)}")
    run.part.mkdir()
    with ExitStack() as stack:
        opened = [stack.enter_context(closing(Peek(path))) for path in stores]
        work = _Work(into, opened)
        try:
            run.make(work, work.resume, _nobody)
        except DataError as error:
            if _fetches(stage):
                raise Unready(str(error)) from error
            raise
    return {path: str(made) for path, made in run.outputs().items()}


def _fetches(stage: Stage) -> bool:
    return any(str(value.data).startswith("hf://") for value in stage.values.values())


def _nobody(outcome: Outcome) -> None:
    """Nobody watches."""


class _Work:
    """What `drp.op.Work` promises: it answers from the stores."""

    def __init__(self, into: Path, stores: Sequence[Store]) -> None:
        self._into, self._stores = into, stores
        self.totals: Counter[str] = Counter()
        self.served: set[str] = set()

    @property
    def out(self) -> Path:
        """Of no use here: what trains is not rebuilt."""
        return self._folder("part/model")

    @property
    def resume(self) -> Path:
        """A folder that nothing is found in."""
        return self._folder("resume")

    def _folder(self, name: str) -> Path:
        (self._into / name).mkdir(parents=True, exist_ok=True)
        return self._into / name

    def ask(self, model: Model, records: Iterable[Record], dialogue: Dialogue) -> Iterator[Outcome]:
        """Hold the dialogue over every record, in order."""
        kept = _Kept(self._stores)
        return Asking(Usage(kept, self.totals, self.served, _unseen), WINDOW).run(records, kept.listening(dialogue))

    def say(self, text: str) -> None:
        """To nobody."""

    def usage(self) -> dict[str, Any]:
        """As the run that paid has counted it."""
        return usage_of(self.totals, self.served)


def _unseen(burst: Sequence[Answer]) -> None:
    """Nobody watches."""


class _Kept:
    """A backend that answers with what is kept, also with an answer that failed then: it is what the stage was answered with.

    Unanswered where that lacks, when all requests that are open have been looked for.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = stores
        self._further: dict[str, tuple[str, list[str]]] = {}

    def listening(self, dialogue: Dialogue) -> Dialogue:
        """The same dialogue, of which it is known what was asked in the light of which replies."""

        def talk(record: Record) -> Talk:
            own, heard, replies = dialogue(record), list[str](), list[Completion]()
            while True:
                try:
                    requests = own.send(replies) if heard else next(own)
                except StopIteration as stop:
                    return stop.value  # type: ignore[no-any-return]  # what the dialogue returns
                further = [request.key() for request in requests] if heard else []
                for key in further:
                    self._further.setdefault(key, (record["id"], [*heard]))
                replies = list((yield requests))
                heard += [reply.key for reply in replies]
                for key in further:
                    self._further.pop(key, None)

        return talk

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """At once."""
        burst: list[Answer] = []
        missing: set[str] = set()
        for ask in asks:
            if ask is not None and (found := self._find(ask.request)):
                burst.append(Answer(ask.ticket, found))
            elif ask is not None:
                missing.add(ask.request.key())
            elif missing:
                break
            if not missing and (ask is None or len(burst) >= BURST):
                yield burst
                burst = []
        if missing:
            raise Unanswered(len(missing), dict(self._further[key] for key in sorted(missing & self._further.keys())))
        yield burst

    def _find(self, request: Request) -> Completion | None:
        key = request.key()
        for store in self.stores:
            for text, digest in store.rows("select completion, digest from completions where key = ?", (bytes.fromhex(key),)):
                if digest_of(text) != digest:
                    raise store.altered(key)
                return Completion(**json.loads(text), key=key)
        return None


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    main(*sys.argv[1:])
