"""What an op is made of: the words of its signature, the work it is given, the outcomes it yields."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NewType, Protocol

from drp.models import Completion, Model, Request
from drp.prompts import Prompt
from drp.records import Dropped, Kept, Outcome, Record, TrailRow, trail_row

__all__ = [
    "Completion", "Dialogue", "Dropped", "Inputs", "Kept", "Model", "Outcome", "Prompt", "Record", "Report", "Request",
    "Source", "Supplies", "TrailRow", "Work", "trail_row",
]  # fmt: skip

Source = NewType("Source", str)
"""An option that names where records come from: `hf://…`, `gym://…`, or a file (then a dependency of the stage)."""

Inputs = Mapping[str, Iterable[Record]]
"""Several inputs by stage name, in the order of the recipe."""

Talk = Generator[Sequence[Request], Sequence[Completion], Outcome | list[Outcome]]
Dialogue = Callable[[Record], Talk]
"""One record's conversation with a model: yield requests that may run together, be sent their completions in the same
order, go on as often as needed, and return the record's outcome (or several, sorted by id)."""


@dataclass(frozen=True)
class Supplies:
    """Marks a `Prompt` option (`Annotated[Prompt, Supplies("question")]`) with the variables that the op renders it with."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True)
class Report:
    """What a reporting op returns: `metrics` (numbers by dotted name), `table` (Markdown), `rows` (plot data)."""

    metrics: dict[str, Any]
    table: str
    rows: list[dict[str, Any]] = field(default_factory=list)


class Work(Protocol):
    """What a running stage gives its op. An op never opens a file of the pipeline and never knows its stage's name."""

    @property
    def out(self) -> Path:
        """An empty folder; what an op writes there is published as the model that this stage makes."""
        ...

    @property
    def resume(self) -> Path:
        """A folder that survives a kill and a rerun with the same inputs and options: for checkpoints of training."""
        ...

    def ask(self, model: Model, records: Iterable[Record], dialogue: Dialogue) -> Iterator[Outcome]:
        """Hold the dialogue over every record, many at once; outcomes come in the order of the records."""
        ...

    def say(self, text: str) -> None:
        """A line of progress for the person who watches."""
        ...
