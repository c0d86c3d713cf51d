"""Write lineage for other tools: a data set (croissant), a recipe (prov, openlineage), a hub card (card)."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from drp.errors import ConfigError
from drp.project import Project

if TYPE_CHECKING:
    from drp.exports.facts import Facts
    from drp.exports.target import Target

FORMATS = {
    "croissant": "Croissant 1.1 (JSON-LD) of a data set: files, typed fields, and where each value came from",
    "prov": "W3C PROV (PROV-JSON) of a recipe: every stage, file, value and model",
    "openlineage": "OpenLineage events (a JSON line each), a run for each stage",
    "card": "the README.md of a data set or a model on the hub",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    group = parser.add_subparsers(title="formats", metavar="FORMAT", required=True)
    for name, words in FORMATS.items():
        command = group.add_parser(name, help=words, description=words)
        command.add_argument(
            "target", nargs="?", metavar="TARGET",
            help="a recipe (`mini`), a stage (`mini/targets`), a file or folder that one made (default: the only recipe)",
        )  # fmt: skip
        command.add_argument("--at", metavar="REV", help="as it was at this commit, tag or experiment (default: as it lies here)")
        command.add_argument("--out", type=Path, metavar="FILE", help="write it there (default: to stdout)")
        command.set_defaults(format=name, record=None)
        if name == "prov":
            command.add_argument("--record", metavar="ID", help="this record's own chain too: sentences, steps, completions")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.exports.facts import Facts
    from drp.exports.target import resolve
    from drp.lineage.graph import Graph
    from drp.lineage.snapshot import Snapshot
    from drp.pipeline.yamlfile import write

    if given.out:
        _writable(given.out)
    graph = Graph(Snapshot(Project.here(), given.at))
    facts, target = Facts(graph), resolve(graph, given.target)
    text = _text(given, facts, target)
    _licences(facts, target)
    if given.out:
        write(given.out, text)
    else:
        sys.stdout.write(text)


def _writable(out: Path) -> None:
    """ConfigError where no file can be written there; said before anything is looked up."""
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder; name a file in it")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")


def _text(given: argparse.Namespace, facts: "Facts", target: "Target") -> str:
    if given.format == "croissant":
        from drp.exports.croissant import export

        return export(facts, target)
    if given.format == "prov":
        from drp.exports import prov

        return prov.export(facts, target, given.record)
    if given.format == "openlineage":
        from drp.exports import openlineage

        return openlineage.export(facts, target)
    from drp.exports import cards

    return cards.export(facts, target)


def _licences(facts: "Facts", target: "Target") -> None:
    """Say on stderr of what no licence is known, and the cure."""
    if missing := facts.licences.missing(facts.names(target.nodes)):
        listed = ", ".join(f"{name!r}: <id>" for name in missing)
        sys.stderr.write(f"no licence is known of {', '.join(missing)}; say it in params.yaml: `licences: {{{listed}}}`\n")
