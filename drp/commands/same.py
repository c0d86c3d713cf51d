"""Declare that an op's changed code means the same: nothing reruns."""

import argparse

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("op", metavar="OP")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.pipeline.oplock import same

    entry = same(Project.here(), given.op)
    print(f"{given.op}: {entry.fingerprint} also for code {entry.code}")
