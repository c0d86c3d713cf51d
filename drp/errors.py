"""Every error that drp raises on purpose: a place, a value, the choices and the cure, and an exit code."""

from collections.abc import Iterable
from dataclasses import dataclass


class DrpError(Exception):
    """The root of drp's errors; the command line prints its text and exits with `exit_code`."""

    exit_code = 1


class ConfigError(DrpError):
    """params.yaml, the environment or the project folder is not as it must be."""

    exit_code = 2


class MissingPackage(ConfigError):
    """An optional dependency is not installed; the text names the extra that brings it."""


class DataError(DrpError):
    """A data file or source cannot be read as records."""


class BackendError(DrpError):
    """A model cannot be reached or loaded at all (one record's failure is a `Completion`, not this)."""

    exit_code = 69


class StaleCompile(DrpError):
    """The compiled dvc.yaml no longer says what the recipe says; `drp compile` is the cure."""

    exit_code = 64


class InputsChanged(DrpError):
    """A file or parameter changed while the stage ran; nothing was published."""

    exit_code = 65


class UndeclaredRead(DrpError):
    """The code of a stage opened a file that is not an input of the stage; nothing was published."""

    exit_code = 66


class StageLocked(DrpError):
    """Another process runs this very stage."""

    exit_code = 75


class BudgetReached(DrpError):
    """The next request could cost more than its recipe's budget has left; what was paid for is kept."""

    exit_code = 77


@dataclass(frozen=True, order=True, slots=True)
class Problem:
    """One fault of a recipe: where it is (1-based line and column) and what is wrong with it."""

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.text}"


class RecipeError(DrpError):
    """A recipe is refused; all its problems are named at once, in the order of the file."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


def choices(value: object, among: Iterable[str]) -> str:
    """The tail of a message: ` (a, b, c); did you mean 'b'?`."""
    import difflib  # only who has something to say about an error pays for it

    names = sorted(map(str, among))
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
    listed = f" ({', '.join(names)})" if names else " (there are none)"
    return listed + (f"; did you mean {near[0]!r}?" if near else "")
