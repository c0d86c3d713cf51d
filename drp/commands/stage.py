"""Run one stage (what dvc calls)."""

import argparse

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("recipe", metavar="NAME")
    parser.add_argument("stage", metavar="STAGE")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.pipeline.stage import run

    run(Project.here(), given.recipe, given.stage)
