"""Look after the completions that are stored: stats, check, export, import, forget."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drp.errors import ConfigError, DataError, choices
from drp.project import Project

if TYPE_CHECKING:
    from drp.store.completions import Owner, Store
    from drp.store.repair import Health
    from drp.store.upkeep import Chosen

EXAMPLES = """a condition in SQL, as "finish = 'length'" or "text like '%%sorry%%'\""""
COLUMNS = "finish, prompt_tokens, completion_tokens, model, served, error, text, age_days, key"
FAULTS = 100
"""Faults that are printed; the others are counted."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    group = parser.add_subparsers(title="what", metavar="WHAT", required=True)

    def add(name: str, do: Any, words: str) -> argparse.ArgumentParser:
        command = group.add_parser(name, help=words, description=words)
        command.set_defaults(do=do)
        return command

    stats = add("stats", _stats, "what is stored, by model and by stage, and what it cost")
    stats.add_argument("--json", action="store_true", help="as JSON")
    check = add("check", _check, "read all of it and name every fault; exit 1 where there is one")
    check.add_argument("--repair", action="store_true", help="save what is sound into a new file, set the old one aside")
    export = add("export", _export, "write the completions that the last runs of recipes used to one Parquet file")
    export.add_argument("names", nargs="*", metavar="NAME", help="recipes, with the stages that they take over (default: all)")
    export.add_argument("--out", type=Path, metavar="FILE", help="default, of one recipe: recipes/NAME/completions.parquet")
    export.add_argument("--stage", metavar="STAGE", help="only this stage, in all its variants")
    import_ = add("import", _import, "put in the completions of exported files that are not there yet")
    import_.add_argument("files", nargs="+", type=Path, metavar="FILE")
    forget = add("forget", _forget, "remove completions, so that they are asked for anew; all that is given must hold")
    forget.add_argument("name", nargs="?", metavar="NAME", help="those that the last runs of this recipe's stages used")
    forget.add_argument("--stage", metavar="STAGE", help="those that this stage used, in all its variants")
    forget.add_argument("--where", metavar="EXPR", default="", help=f"{EXAMPLES}; columns: {COLUMNS}")
    forget.add_argument("--key", metavar="KEY", default="", help="that one, by its key or the beginning of it")
    forget.add_argument("--unused", action="store_true", help="those that no stage's last run used")
    forget.add_argument("--failed", action="store_true", help="those that are no answers: errors, filtered content")
    forget.add_argument("--dry-run", action="store_true", help="say what would be forgotten, and leave it")
    forget.add_argument("--yes", action="store_true", help="do not ask")


def run(given: argparse.Namespace) -> int | None:
    """Do it."""
    project = Project.here()
    code: int | None = given.do(project, given)
    return code


def _open(project: Project) -> "Store":
    from drp.store.completions import Store

    if not project.store.parent.exists() or not any(project.store.parent.glob(f"{project.store.name}*")):
        raise DataError(f"{project.store}: no completions yet: run a stage that asks a model, or `drp cache import FILE`")
    return Store(project.store)


# -- stats, check ------------------------------------------------------------------------------------------------------------


def _stats(project: Project, given: argparse.Namespace) -> None:
    import json

    from drp.store.upkeep import stats

    store = _open(project)
    try:
        found = stats(store)
    finally:
        store.close()
    if given.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    rows = found["completions"]
    print(f"{found['path']}: {found['bytes'] / 1e6:.1f} MB, {found['free_bytes'] / 1e6:.1f} MB of it free for new ones")
    share = f" ({found['reusable'] / rows:.1%})" if rows else ""
    print(
        f"{rows} completions: {found['reusable']} whole{share}, {found['cut_off']} cut off; {found['unused']} used by no last run"
    )
    if rows:
        print(f"from {found['oldest']} to {found['newest']}")
    _table(
        ["model", "completions", "finish", "prompt tokens", "completion tokens"],
        [[m["model"], m["completions"], ", ".join(f"{k} {v}" for k, v in m["finish"].items()), m["prompt_tokens"],
          m["completion_tokens"]] for m in found["models"]],
    )  # fmt: skip
    _table(
        ["stage", "uses", "paid answers", "prompt tokens", "completion tokens", "cost"],
        [[f"{s['recipe']}/{s['stage']}" if s["stage"] else "(no stage)", s["uses"], s["payments"], s["prompt_tokens"],
          s["completion_tokens"], f"{s['cost']:.4f}"] for s in found["stages"]],
    )  # fmt: skip


def _table(head: list[str], rows: list[list[Any]]) -> None:
    if not rows:
        return
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print()
    for row in cells:
        print(
            "  ".join(
                f"{cell:<{width}}" if n == 0 else f"{cell:>{width}}"
                for n, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )


def _check(project: Project, given: argparse.Namespace) -> int:
    from drp.store.repair import check, repair

    if not project.store.parent.exists() or not any(project.store.parent.glob(f"{project.store.name}*")):
        print(f"{project.store}: no completions yet")
        return 0
    health = check(project.store)
    _faults(health)
    if health.rows:
        print(", ".join(f"{count} {table}" for table, count in health.rows.items()))
    if not health.faults:
        print(f"{project.store}: sound")
        return 0
    if not given.repair:
        print(f"{project.store}: {len(health.faults)} faults; `drp cache check --repair` saves what is sound")
        return 1
    saved = repair(project.store)
    _faults(saved)
    for table, count in saved.rows.items():
        print(f"{table}: {count} saved, {saved.lost[table]} lost")
    for table, count in saved.lost.items():
        if table not in saved.rows and count:
            print(f"{table}: 0 saved, {count} lost")
    print(f"{project.store}: made anew of what was sound; the old file is {saved.aside}")
    return 0


def _faults(health: "Health") -> None:
    for fault in health.faults[:FAULTS]:
        print(fault)
    if len(health.faults) > FAULTS:
        print(f"… and {len(health.faults) - FAULTS} more")


# -- export, import ----------------------------------------------------------------------------------------------------------


def _export(project: Project, given: argparse.Namespace) -> None:
    from drp.store.exchange import export, owners

    store = _open(project)
    try:
        known = owners(store)
        of = _of_stage([o for o in known if not given.names or o in _taken(project, given.names, known)], given.stage)
        out = given.out or _shared(project, given.names)
        count = export(store, of, out)
        ((rows,),) = store.rows("select count(*) from completions")
    finally:
        store.close()
    print(f"{out}: {count} completions of {len(of)} stages ({rows - count} others left out)")
    print(f"share it: dvc add {out}; then, elsewhere, after dvc pull: `drp why` finds it, drp cache import {out} spares paying")


def _shared(project: Project, names: list[str]) -> Path:
    """Where the completions of a recipe are looked for by `drp why` and `drp verify`."""
    if len(names) != 1 or names[0] not in project.recipes():
        raise ConfigError("say where to: --out FILE (it may be left out where one recipe is named)")
    return Path(os.path.relpath(project.root / "recipes" / names[0] / "completions.parquet"))


def _taken(project: Project, names: list[str], known: "list[Owner]") -> "set[Owner]":
    """The stages of recipes, also those that they take over from others."""
    from drp.recipe.resolve import resolve_all
    from drp.store.completions import Owner

    found: set[Owner] = set()
    for name in names:
        if name in project.recipes():
            stages = resolve_all(project, [name])[name].stages.values()
            found |= {Owner(stage.ref.recipe, stage.ref.slug) for stage in stages}
        else:
            found |= set(_of_recipe(known, name))
    return found


def _of_recipe(known: "list[Owner]", name: str) -> "list[Owner]":
    of = [owner for owner in known if owner.recipe == name]
    if not of:
        raise ConfigError(f"no stage of a recipe {name!r} has used a completion{choices(name, {o.recipe for o in known} - {''})}")
    return of


def _of_stage(known: "list[Owner]", stage: str | None) -> "list[Owner]":
    """The stage in all its variants."""
    of = [owner for owner in known if stage is None or owner.stage == stage or owner.stage.startswith(f"{stage}--")]
    if not of and stage is not None:
        raise ConfigError(f"no stage {stage!r} has used a completion{choices(stage, {o.stage for o in known} - {''})}")
    return of


def _import(project: Project, given: argparse.Namespace) -> int:
    from drp.store.completions import Store
    from drp.store.exchange import import_

    refused: list[str] = []
    store = Store(project.store)
    try:
        for path in given.files:
            found = import_(store, path)
            refused += found.refused
            better = f", {found.better} in the place of broken ones" if found.better else ""
            print(f"{path}: {found.new} new{better}, {found.known} known, {len(found.refused)} refused")
    finally:
        store.close()
    for line in refused[:FAULTS]:
        sys.stderr.write(f"{line}\n")
    if len(refused) > FAULTS:
        sys.stderr.write(f"… and {len(refused) - FAULTS} more\n")
    return 1 if refused else 0


# -- forget ------------------------------------------------------------------------------------------------------------------


def _forget(project: Project, given: argparse.Namespace) -> None:
    from drp.store.exchange import owners
    from drp.store.upkeep import Choice, choosing, forget

    if not any((given.name, given.stage, given.where, given.key, given.unused, given.failed)):
        raise ConfigError("say what to forget: NAME, --stage, --where, --key, --unused or --failed")
    store = _open(project)
    try:
        of = None
        if given.name or given.stage:
            of = owners(store) if given.name is None else _of_recipe(owners(store), given.name)
            of = _of_stage(of, given.stage)
        with choosing(store, Choice(of, given.where, given.key, given.unused, given.failed)) as chosen:
            print(
                f"{chosen.count} completions, {chosen.whole} of them whole; {chosen.payments} payments for them: "
                f"{chosen.tokens} tokens, {chosen.cost:.4f}"
            )
            if given.dry_run or not chosen.count or not (given.yes or _agreed()):
                return
            print(f"forgot {forget(store)}; what was paid for them stays in the books")
            _again(project, chosen)
    finally:
        store.close()


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("nobody to ask: give --yes to forget them, or --dry-run to look only")
    return input("forget them? [y/N] ").strip().lower() in ("y", "yes")


def _again(project: Project, chosen: "Chosen") -> None:
    """What asks anew: forced, for nothing that DVC looks at has changed."""
    for owner in chosen.users:
        print(f"to ask anew: dvc repro -s -f recipes/{owner.recipe}/dvc.yaml:{owner.stage}")
