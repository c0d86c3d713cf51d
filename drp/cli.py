"""The command line: finds the command, and turns drp's errors into messages and exit codes."""

import argparse
import signal
import sys
from collections.abc import Sequence

from drp import __version__, commands
from drp.errors import DrpError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, the error's own, or 130 when interrupted."""
    given_arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser(given_arguments)
    given = parser.parse_args(given_arguments)
    if not hasattr(given, "run"):
        parser.print_help()
        return 2
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    try:
        return int(given.run(given) or 0)
    except DrpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was published\n")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the command that is named, or of all of them where none is."""
    parser = argparse.ArgumentParser(prog="drp", description="Pruned reasoning datasets from declarative recipes, with lineage.")
    parser.add_argument("--version", action="version", version=f"drp {__version__}")
    group = parser.add_subparsers(title="commands", metavar="COMMAND")
    known = commands.names()
    for name in given[:1] if given and given[0] in known else known:
        command = commands.get(name)
        words = commands.summary(command)
        own = group.add_parser(name, help=words, description=words)
        command.arguments(own)
        own.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
