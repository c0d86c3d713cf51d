"""The command line: check, compile and look at recipes; dvc does the running."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from drp import __version__
from drp.errors import DataError, DrpError
from drp.project import Project


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, the error's own, or 130 when interrupted."""
    parser = _parser()
    given = parser.parse_args(arguments)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="drp", description="Pruned reasoning datasets from declarative recipes, with lineage.")
    parser.add_argument("--version", action="version", version=f"drp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int | None], words: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=words, description=words)
        command.set_defaults(run=run)
        return command

    check = add("check", _check, "refuse a faulty recipe: every problem at once, with file, line and column")
    check.add_argument("names", nargs="*", metavar="NAME", help="recipes (default: all)")
    compile_ = add("compile", _compile, "write recipes/<name>/dvc.yaml for every recipe, where it changed")
    compile_.add_argument("--check", action="store_true", help="write nothing; exit 64 if anything would be written")
    compile_.add_argument("--thaw", metavar="NAME", help="unfreeze this recipe's published models until the next compile")
    schema = add("schema", _schema, "print the JSON Schema of recipes (for editors)")
    schema.add_argument("--write", metavar="FILE", type=Path, help="write it to FILE instead")
    ops = add("ops", _ops, "the ops and their options")
    ops.add_argument("name", nargs="?", metavar="OP", help="one op, in full")
    ops.add_argument("--markdown", action="store_true", help="the whole reference, as in docs/recipe.md")
    same = add("same", _same, "declare that an op's changed code means the same: nothing reruns")
    same.add_argument("op", metavar="OP")
    show = add("show", _show, "print the table of a reporting stage")
    show.add_argument("recipe", metavar="NAME")
    show.add_argument("stage", metavar="STAGE")
    head = add("head", _head, "print records of a stage's output")
    head.add_argument("file", type=Path, metavar="PARQUET")
    head.add_argument("-n", type=int, default=1, help="how many (default: 1)")
    head.add_argument("--id", help="only the record with this id")
    serve = add("serve", _serve, "serve a model of params.yaml on loopback, OpenAI-compatible")
    serve.add_argument("role", metavar="MODEL")
    serve.add_argument("--port", type=int, default=8000, help="default: 8000; 0 takes a free one")
    stage = add("stage", _stage, "run one stage (what dvc calls)")
    stage.add_argument("recipe", metavar="NAME")
    stage.add_argument("stage", metavar="STAGE")
    counts = add("counts", _counts, "collect the counts of a recipe's stages (what dvc calls)")
    counts.add_argument("recipe", metavar="NAME")
    return parser


def _check(given: argparse.Namespace) -> int:
    from drp.pipeline.compile import resolve_all

    project = Project.here()
    for name in given.names:
        project.recipe(name)
    recipes = resolve_all(project, given.names)
    for name, recipe in recipes.items():
        print(f"{name}: {len(recipe.own())} stages, {len(recipe.stages) - len(recipe.own())} taken over")
    return 0


def _compile(given: argparse.Namespace) -> int:
    from drp.pipeline.compile import compile_all

    project = Project.here()
    if given.thaw:
        project.recipe(given.thaw)
    stale = compile_all(project, check=given.check, thaw=given.thaw)
    for path in stale:
        print(f"{'stale' if given.check else 'wrote'}: {path.relative_to(project.root)}")
    return 64 if stale and given.check else 0


def _schema(given: argparse.Namespace) -> None:
    from drp.pipeline.yamlfile import write
    from drp.recipe.schema import schema

    text = json.dumps(schema(Project.here()), indent=1, ensure_ascii=False) + "\n"
    if given.write:
        write(given.write, text)
    else:
        sys.stdout.write(text)


def _ops(given: argparse.Namespace) -> None:
    from drp.recipe.reference import listing, reference

    if given.markdown:
        sys.stdout.write(reference(given.name))
    else:
        sys.stdout.write(listing(given.name, Project.here().ops_root))


def _same(given: argparse.Namespace) -> None:
    from drp.pipeline.oplock import same

    entry = same(Project.here(), given.op)
    print(f"{given.op}: {entry.fingerprint} also for code {entry.code}")


def _show(given: argparse.Namespace) -> None:
    from drp.errors import ConfigError
    from drp.pipeline.stage import find

    project = Project.here()
    stage = find(project, given.recipe, given.stage)
    path = project.root / f"{stage.ref.report}.md"
    if not stage.op.reports:
        raise ConfigError(f"stage {given.stage!r} makes records, not a table: `drp head {stage.ref.data}.parquet` shows them")
    if not path.exists():
        raise ConfigError(
            f"{path.relative_to(project.root)}: no such table; run `dvc repro recipes/{given.recipe}/dvc.yaml:{given.stage}`"
        )
    sys.stdout.write(path.read_text(encoding="utf-8"))


def _head(given: argparse.Namespace) -> None:
    import itertools

    from drp.records import read

    wanted = (r for r in read(given.file) if given.id in (None, r["id"]))
    found = list(itertools.islice(wanted, max(0, given.n)))
    if given.id and not found:
        raise DataError(f"{given.file}: no record {given.id!r}; perhaps {given.file.stem}.dropped.parquet has it")
    for record in found:
        print(json.dumps(record, indent=1, ensure_ascii=False))


def _serve(given: argparse.Namespace) -> None:
    from drp.pipeline.stage import model_of
    from drp.serving import serve

    project = Project.here()
    os.chdir(project.root)

    def ready(port: int) -> None:
        print(f"{given.role}: http://127.0.0.1:{port}/v1 (end it with Ctrl-C)", flush=True)

    serve(model_of(project, given.role), given.port, ready)


def _stage(given: argparse.Namespace) -> None:
    from drp.pipeline.stage import run

    run(Project.here(), given.recipe, given.stage)


def _counts(given: argparse.Namespace) -> None:
    from drp.pipeline.counts import write

    write(Project.here(), given.recipe)


if __name__ == "__main__":
    sys.exit(main())
