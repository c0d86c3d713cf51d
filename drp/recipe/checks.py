"""Whether the values of a stage fit its op."""

from collections.abc import Iterable, Iterator, Mapping

from drp import ops
from drp.errors import ConfigError, Problem, choices
from drp.ops import Op, Option
from drp.project import Project
from drp.recipe.drafts import Drafts
from drp.recipe.stages import Stage, Value


def check_key(project: Project, op: Op, key: str, value: Value) -> Iterator[Problem]:
    """One key by itself: there is such an option, and the value is what it takes. (Names of stages and models: `names`.)"""
    option = op.options.get(key)
    if option is None:
        yield value.problem(f"{key!r} is not a key of op {op.name!r}{choices(key, op.options)}", "key")
    elif option.kind in ("inputs", "model", "models"):
        return
    elif text := ops.fault(value.data, str | None if option.kind in ("prompt", "source") else option.annotation):
        yield value.problem(f"{value.data!r} {text}")
    elif value.data is None:
        if option.required:
            yield value.problem(f"op {op.name!r} needs a value here")
    elif option.kind == "prompt":
        yield from _prompt(project, option, value)
    elif option.kind == "source":
        yield from _source(project, value)


def _prompt(project: Project, option: Option, value: Value) -> Iterator[Problem]:
    """The prompt is there, and uses no variable that the op does not supply."""
    if value.data not in project.prompts():
        yield value.problem(f"{value.data!r} is not a prompt in prompts/{choices(value.data, project.prompts())}")
        return
    try:
        missing = sorted(project.prompt(value.data).variables - set(option.supplies))
    except ConfigError as error:
        yield value.problem(str(error))
        return
    for name in missing:
        words = f"prompts/{value.data}.j2 uses {name!r}, which this op does not supply"
        yield value.problem(words + choices(name, option.supplies))


def _source(project: Project, value: Value) -> Iterator[Problem]:
    """The file is there, or DVC can bring it."""
    path = project.root / value.data
    if "://" not in value.data and not path.exists() and not path.with_name(path.name + ".dvc").exists():
        yield value.problem(f"{value.data!r}: no such file (nor `{value.data}.dvc`); a hub source begins with hf://")


def check_whole(drafts: Drafts, stage: str, op: Op, values: Mapping[str, Value]) -> Iterator[Problem]:
    """The keys together: none is missing, and the op's own rules between them hold."""
    for option in op.options.values():
        if option.required and option.name not in values:
            yield drafts.document.problem(("stages", stage), f"op {op.name!r} needs `{option.name}`", "key")
    if op.rules:
        given = {o.name: o.default for o in op.options.values()} | {key: value.data for key, value in values.items()}
        for key, text in op.rules(given):
            yield values.get(key, values["op"]).problem(text)


def check_from(drafts: Drafts, stage: str, op: Op, given: Value | None, found: int) -> Iterator[Problem]:
    """`from` is there where the op takes input, and names (`found`) as many stages as it takes."""
    if given is None:
        if op.takes != "none":
            words = f"op {op.name!r} needs `from`{choices('', drafts.stages)}"
            yield drafts.document.problem(("stages", stage), words, "key")
        return
    if given.data is None or given.data == []:
        yield given.problem(f"names no stage{choices('', drafts.stages)}")
    if op.takes == "none":
        yield given.problem(f"op {op.name!r} takes no input", "key")
    elif op.takes == "one" and found > 1:
        yield given.problem(f"op {op.name!r} takes one input, not {found}; join them with op 'mix' first")


def check_columns(op: Op, values: Mapping[str, Value], inputs: Mapping[str, Iterable[Stage]]) -> Iterator[Problem]:
    """Every input has the columns that the op reads; `without` is looked at for its questions alone."""
    for key, stages in inputs.items():
        for before in stages if key != "without" else ():
            if before.columns and (missing := [column for column in op.needs if column not in before.columns]):
                words = f"{before.ref.slug!r} has no column {', '.join(map(repr, missing))}, which op {op.name!r} needs"
                yield values[key].problem(f"{words} (it has {', '.join(sorted(before.columns))})")
