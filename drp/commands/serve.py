"""Serve a model of params.yaml on loopback, OpenAI-compatible."""

import argparse
import os

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("role", metavar="MODEL")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0 takes a free one")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.pipeline.calling import model_of
    from drp.serving import serve

    project = Project.here()
    os.chdir(project.root)

    def ready(port: int) -> None:
        print(f"{given.role}: http://127.0.0.1:{port}/v1 (end it with Ctrl-C)", flush=True)

    serve(model_of(project, given.role), given.port, ready)
