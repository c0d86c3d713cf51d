"""The command line: finds the command, and turns drp's errors into messages and exit codes."""

import argparse
import signal
import sys
from collections.abc import Sequence

from drp import __version__, commands
from drp.errors import DrpError, choices

WHAT = "Pruned reasoning datasets from declarative recipes, with lineage."
EXAMPLES = """\
for example:
  drp plan mini                     what would run, why, and what it would cost
  drp run mini                      do it (or: dvc repro recipes/mini/dvc.yaml)
  drp why "a sentence of a target"  the steps, action, prompt, completion and question that it came from
  drp COMMAND --help"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, the error's own, or 130 when interrupted."""
    given = _parsed(sys.argv[1:] if arguments is None else list(arguments))
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


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """What was given to the command that is named (only its file is loaded); with none, the help of all of them."""
    known, name = commands.names(), arguments[0] if arguments else ""
    if name in known:
        command = commands.get(name)
        own = argparse.ArgumentParser(prog=f"drp {name}", description=commands.summary(command))
        command.arguments(own)
        return own.parse_args(arguments[1:], argparse.Namespace(run=command.run))
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="drp", usage="drp [-h] [--version] COMMAND …", description=WHAT, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"drp {__version__}")
    if name and not name.startswith("-"):
        parser.error(f"there is no command {name!r}{choices(name, known)}")
    parser.epilog = f"{commands.overview()}\n{EXAMPLES}"
    parser.parse_args(arguments)
    parser.print_help()
    sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
