"""Check that every file, record, trail and completion of a dataset is what it says it is, and make it anew to compare."""

import argparse
import json

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="with all that they were made from (default: all)")
    parser.add_argument("--no-rebuild", action="store_true", help="do not make the stages anew from stored completions")
    parser.add_argument("--full", action="store_true", help="one by one what is no fault, which is told by its causes else")
    parser.add_argument("--json", action="store_true", help="everything, for programs")


def run(given: argparse.Namespace) -> int:
    """Do it; 1 where anything is not what it says it is (what is out of date is what it says)."""
    from drp.auditing.audit import audit
    from drp.auditing.telling import lines, summary

    checks = audit(Project.here(), given.recipes, not given.no_rebuild)
    failed = any(check.state == "failed" for check in checks)
    if given.json:
        told = {"ok": not failed, "summary": summary(checks), "checks": [check.plain() for check in checks]}
        print(json.dumps(told, indent=1, ensure_ascii=False))
        return int(failed)
    print(*lines(checks, given.full), sep="\n")
    return int(failed)
