"""Make what is out of date: a check of the compile, then dvc repro, with live progress."""

import argparse

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME[:STAGE]", help="recipes or stages (default: the root's dvc.yaml)")
    parser.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="up to N stages at once (default: 1)")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--force", action="append", default=[], metavar="NAME:STAGE", help="run it though nothing changed")
    either.add_argument("--dry", action="store_true", help="only say what would run")


def run(given: argparse.Namespace) -> int:
    """Do it."""
    import os

    from drp.errors import ConfigError
    from drp.pipeline import door
    from drp.running import dvc

    if given.jobs < 1:
        raise ConfigError(f"-j {given.jobs}: at least one stage at a time")
    project = Project.here()
    if unnamed := [name for name in given.force if ":" not in name]:
        raise ConfigError(f"--force {unnamed[0]}: name the stage too, as in {unnamed[0]}:edits")
    forced = [_target(project, name) for name in given.force]
    targets = [_target(project, name) for name in given.names or {name.partition(":")[0] for name in given.force}]
    if not targets and not (project.root / "dvc.yaml").exists():
        raise ConfigError(f"there is no dvc.yaml here: name what to run ({', '.join(project.recipes())})")
    door.check(project)
    os.chdir(project.root)
    try:
        if given.jobs == 1 and not forced and not given.dry:
            return dvc.run(project, targets)
        from drp.running.graph import foretold, nodes

        plan = nodes(project.root, [*targets, *forced] or ["dvc.yaml"])
        if given.dry:
            print("\n".join(foretold(plan)))
            return 0
        return dvc.side_by_side(project, plan, given.jobs, forced)
    finally:
        door.renew(project)


def _target(project: Project, name: str) -> str:
    """`NAME` or `NAME:STAGE` as DVC calls it."""
    from drp.errors import ConfigError, choices
    from drp.pipeline.yamlfile import mapping

    recipe, colon, stage = name.partition(":")
    path = project.recipe(recipe).with_name("dvc.yaml")
    stages = mapping(path).get("stages", {})
    if colon and stages and stage not in stages:
        raise ConfigError(f"{path.relative_to(project.root)} has no stage {stage!r}{choices(stage, stages)}")
    return f"recipes/{recipe}/dvc.yaml{colon}{stage}"
