"""Run one stage (what dvc calls)."""

import argparse
import gc

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("recipe", metavar="NAME")
    parser.add_argument("stage", metavar="STAGE")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.pipeline.stage import run

    gc.set_threshold(20_000, 20, 50)  # a thousand open dialogues are no garbage: looking less often saves 4 % of a stage's time
    run(Project.here(), given.recipe, given.stage)
    gc.freeze()  # nor is what the interpreter would look through once more at its end (30 ms)
