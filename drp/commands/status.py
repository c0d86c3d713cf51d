"""Show what the stages do, or did last: how far, how fast, answers, money, what was dropped; works while they run."""

import argparse

from drp.project import Project

PATIENCE = 5
"""So many seconds may pass between two stages of a run."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipes (default: all)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--watch", action="store_true", help="again and again, until nothing has run for some seconds")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    import json
    import time

    from drp.running import status
    from drp.running.screen import Screen

    project, screen = Project.here(), Screen()
    for name in given.names:
        project.recipe(name)
    idle = 0
    while True:
        now, seen, held = time.time(), status.stages(project, given.names), status.holders(project, given.names)
        idle = 0 if any(one.state == "running" for one in seen) else idle + 1
        last = not given.watch or idle > PATIENCE
        if given.json:
            text = [json.dumps(status.plain(now, seen, held), indent=None if given.watch else 1, ensure_ascii=False)]
        else:
            text = status.lines(now, seen, held) or ["no stage has run here"]
        live = screen.live and not given.json
        screen.draw([] if last or not live else text)
        if last or not live:
            screen.say(text)
        if last:
            return
        try:
            time.sleep(1 if screen.live or idle else 10)
        except KeyboardInterrupt:  # the way to stop watching
            return
