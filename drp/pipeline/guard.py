"""What keeps a running stage honest: one copy at a time, inputs that hold still."""

import fcntl
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drp.errors import InputsChanged, StageLocked
from drp.fingerprint import of_path


def exit_on_sigterm() -> None:
    """Turn SIGTERM into SystemExit(143), so that half-made files are taken away."""

    def stop(number: int, frame: object) -> None:
        sys.exit(143)

    signal.signal(signal.SIGTERM, stop)


@contextmanager
def only_copy(folder: Path, name: str) -> Iterator[None]:
    """Hold the stage's lock; StageLocked where another process has it. The kernel lets go of it at any kind of death."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageLocked(f"{name}: another process is running this stage; wait for it, or end it") from error
        yield


class Inputs:
    """The hashes of a stage's inputs at its start. DVC hashes them only after the command, so its lock would lie."""

    def __init__(self, root: Path, paths: list[str], values: dict[str, object]) -> None:
        self._root, self._paths = root, paths
        self.values = values
        self.hashes = self._now()

    def _now(self) -> dict[str, str]:
        return {p: of_path(self._root / p) if (self._root / p).exists() else "absent" for p in self._paths}

    def hold(self, values: dict[str, object]) -> None:
        """InputsChanged where a file or a value is not what it was at the start."""
        now = self._now()
        changed = [p for p in self._paths if now[p] != self.hashes[p]]
        changed += [k for k in {**self.values, **values} if self.values.get(k) != values.get(k)]
        if changed:
            raise InputsChanged(f"changed while the stage ran: {', '.join(sorted(changed))}. Nothing was published; run it again")
