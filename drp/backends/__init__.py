"""The seam to the world: a backend takes requests and yields completions. One file a backend; the folder is the registry."""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from drp.models import BackendName, Completion, Model, Request


class Ask(NamedTuple):
    """A request with a ticket by which its answer is recognised."""

    ticket: int
    request: Request


class Answer(NamedTuple):
    """The completion for a ticket."""

    ticket: int
    completion: Completion


class Backend(Protocol):
    """One method wide; whatever wraps a backend (a store, a budget, a counter) is a backend too."""

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """Answer every ask, in any order, in bursts, until `asks` ends.

        Pull as many asks as can be worked on at once. A pulled `None` means "none at the moment, perhaps later": go on
        with what is in hand. Yield together what became ready together (what is around a backend may then do its work
        once for all of it); yield an empty burst when nothing is in hand, so that the caller can make progress.
        """
        ...


def pull(asks: Iterator[Ask | None], most: int) -> tuple[list[Ask], bool]:
    """Up to `most` asks, fewer where none is to be had at the moment; and whether there will be no more."""
    pulled: list[Ask] = []
    while len(pulled) < most:
        try:
            ask = next(asks)
        except StopIteration:
            return pulled, True
        if ask is None:
            break
        pulled.append(ask)
    return pulled, False


def connect(model: Model, folder: Path | None = None) -> Backend:
    """The backend that the model's endpoint names, loaded and ready; in `folder` the backend `batch` keeps its jobs."""
    name: BackendName = model.endpoint.backend
    module = importlib.import_module(f"drp.backends.{name}")
    backend: Backend = module.connect(model, folder) if name == "batch" else module.connect(model)
    return backend
