"""The commands: one file each; the folder is the registry, and a file's first line is what the help prints.

A command's file has `arguments(parser)`, which declares what it takes, and `run(given)`, which does it and gives the exit code.
"""

import argparse
import importlib
import pkgutil
import textwrap
from typing import Protocol

GROUPS = {
    "build": ("check", "compile", "plan", "run", "status", "serve"),
    "look": ("show", "head", "ops", "schema"),
    "ask where it came from": ("why", "used", "deleted", "diff"),
    "trust, take back, share": ("verify", "withdraw", "export", "cache"),
    "after a change of an op's code": ("same",),
    "called by DVC": ("stage", "counts"),
}
"""How the help orders them; what is in none comes last."""


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
    """Every command."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def overview() -> str:
    """Every command with its first line, by group."""
    known = names()
    grouped = {name for group in GROUPS.values() for name in group}
    groups = {**GROUPS, "others": tuple(name for name in known if name not in grouped)}
    told = []
    for title, group in groups.items():
        lines = [_entry(name) for name in group if name in known]
        told += [f"{title}:", *lines, ""] if lines else []
    return "\n".join(told)


def _entry(name: str) -> str:
    return textwrap.fill(summary(get(name)), 100, initial_indent=f"  {name:<10}", subsequent_indent=" " * 12)


def get(name: str) -> Command:
    """The command of that name."""
    command: Command = importlib.import_module(f"drp.commands.{name}")
    return command


def summary(command: Command) -> str:
    """Its first line, as the help prints it."""
    line = (command.__doc__ or "").strip().splitlines()[0].rstrip(".")
    return line[0].lower() + line[1:]
