"""The commands: one file each; the folder is the registry, and a file's first line is what the help prints.

A command's file has `arguments(parser)`, which declares what it takes, and `run(given)`, which does it and gives the exit code.
"""

import argparse
import importlib
import pkgutil
from typing import Protocol


class Command(Protocol):
    """What a command's file offers."""

    __doc__: str | None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare its arguments."""
        ...

    def run(self, given: argparse.Namespace) -> int | None:
        """Do it; the exit code, 0 where it is None."""
        ...


def names() -> list[str]:
    """Every command, in the order of the help."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def get(name: str) -> Command:
    """The command of that name."""
    command: Command = importlib.import_module(f"drp.commands.{name}")
    return command


def summary(command: Command) -> str:
    """Its first line, as the help prints it."""
    line = (command.__doc__ or "").strip().splitlines()[0].rstrip(".")
    return line[0].lower() + line[1:]
