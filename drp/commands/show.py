"""Print the table of a reporting stage."""

import argparse
import sys

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("recipe", metavar="NAME")
    parser.add_argument("stage", nargs="?", metavar="STAGE", help="default: the recipe's only table")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.errors import ConfigError
    from drp.pipeline.stage import find

    project = Project.here()
    _, stage = find(project, given.recipe, given.stage or _only(project, given.recipe))
    path = project.root / f"{stage.ref.report}.md"
    if not stage.op.reports:
        raise ConfigError(f"stage {stage.ref.slug!r} makes records, not a table: `drp head {stage.ref.data}.parquet` shows them")
    if not path.exists():
        raise ConfigError(
            f"{path.relative_to(project.root)}: no such table; run `dvc repro recipes/{given.recipe}/dvc.yaml:{stage.ref.slug}`"
        )
    sys.stdout.write(path.read_text(encoding="utf-8"))


def _only(project: Project, name: str) -> str:
    """The one stage of a recipe that reports."""
    from drp.errors import ConfigError
    from drp.recipe.resolve import resolve_all

    project.recipe(name)
    tables = [stage.ref.slug for stage in resolve_all(project, [name])[name].own() if stage.op.reports]
    if not tables:
        raise ConfigError(f"recipe {name!r} has no table of its own")
    if len(tables) > 1:
        raise ConfigError(f"recipe {name!r} has several tables: say which: {', '.join(tables)}")
    return tables[0]
