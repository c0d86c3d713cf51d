"""Print the table of a reporting stage."""

import argparse
import sys

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("recipe", metavar="NAME")
    parser.add_argument("stage", metavar="STAGE")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.errors import ConfigError
    from drp.pipeline.stage import find

    project = Project.here()
    _, stage = find(project, given.recipe, given.stage)
    path = project.root / f"{stage.ref.report}.md"
    if not stage.op.reports:
        raise ConfigError(f"stage {given.stage!r} makes records, not a table: `drp head {stage.ref.data}.parquet` shows them")
    if not path.exists():
        raise ConfigError(
            f"{path.relative_to(project.root)}: no such table; run `dvc repro recipes/{given.recipe}/dvc.yaml:{given.stage}`"
        )
    sys.stdout.write(path.read_text(encoding="utf-8"))
