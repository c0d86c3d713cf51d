"""The ops: one file each; the folder is the registry, and each op's signature is the schema of its YAML."""

import functools
import importlib
import inspect
import pkgutil
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drp.errors import ConfigError, choices
from drp.fingerprint import SHORT, of_code, of_value
from drp.models import Model
from drp.op import Inputs, Report, Source, Supplies
from drp.prompts import Prompt

RESERVED = ("op", "from", "budget")
"""Keys of a stage that are no option of its op."""
Kind = Literal["plain", "model", "models", "prompt", "source", "inputs"]


@dataclass(frozen=True)
class Option:
    """One YAML key of an op: its annotation without marks, its default, and for a prompt the variables it is given."""

    name: str
    annotation: Any
    kind: Kind
    required: bool
    default: Any
    supplies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Op:
    """An op as its file declares it."""

    name: str
    summary: str
    version: int
    module: str
    function: Callable[..., Any]
    options: dict[str, Option]
    takes: Literal["none", "one", "several"]
    adds: Any
    needs: tuple[str, ...]
    replaces: bool
    makes_model: bool
    makes_records: bool
    reports: bool
    rules: Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]] | None

    def columns(self, inputs: Iterable[frozenset[str]]) -> frozenset[str]:
        """The columns of its output, given those of its inputs."""
        own = frozenset(typing.get_type_hints(self.adds)) if self.adds else frozenset()
        return own if self.replaces or self.takes == "none" else own.union(*inputs)

    def code(self) -> str:
        """The fingerprint of the code that gives this op its meaning."""
        code = of_code(self.module, (self.name, "Adds", "check"), within=("drp", *_packages(self.module)))
        if any(option.kind == "prompt" for option in self.options.values()):
            code = of_value([code, of_code("drp.prompts", ("Prompt",))])[:SHORT]
        return code


def _packages(module: str) -> list[str]:
    """For an op of the project: every package and module beside its `ops/`, because their code is the project's own too."""
    if module.startswith("drp."):
        return []
    folder = Path(str(sys.modules[module].__file__)).parents[1]
    return [p.stem for p in folder.iterdir() if p.suffix == ".py" or (p.is_dir() and any(p.glob("*.py")))]


def names(root: Path | None = None) -> list[str]:
    """Every op that there is: drp's own, and those in the project's `ops/` folder."""
    own = [m.name for m in pkgutil.iter_modules(__path__)]
    theirs = [p.stem for p in (root / "ops").glob("*.py")] if root else []
    return sorted(name for name in {*own, *theirs} if not name.startswith("_"))


@functools.cache
def get(name: str, root: Path | None = None) -> Op:
    """The op of that name; ConfigError where there is none or where its file breaks the rules of `docs/architecture.md`."""
    if name not in names(root):
        raise ConfigError(f"{name!r} is not an op{choices(name, names(root))}")
    if root and (root / "ops" / f"{name}.py").exists():
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
        if (Path(__file__).parent / f"{name}.py").exists():
            raise ConfigError(f"ops/{name}.py: drp has an op {name!r}; give yours another name")
        try:
            module = importlib.import_module(f"ops.{name}")
        except (SyntaxError, ImportError, NameError) as error:
            line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
            raise ConfigError(f"ops/{name}.py{line}: cannot be imported: {error}") from error
    else:
        module = importlib.import_module(f"drp.ops.{name}")
    return _read(name, module)


def _read(name: str, module: types.ModuleType) -> Op:
    function = getattr(module, name, None)
    version = getattr(module, "VERSION", None)
    if function is None or not isinstance(version, int) or not module.__doc__:
        raise ConfigError(f"{module.__file__}: an op needs a first line, `VERSION = <int>` and a function named {name!r}")
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    first = next(iter(parameters), "")
    takes: Literal["none", "one", "several"] = "none"
    if first and parameters[first].kind is not inspect.Parameter.KEYWORD_ONLY and first != "work":
        takes = "several" if hints[first] == Inputs else "one"
    keyword = [p for p in parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    if taken := [p.name for p in keyword if p.name in RESERVED]:
        raise ConfigError(f"{module.__file__}: an option cannot be called {taken[0]!r}: in a recipe that is a key of every stage")
    return Op(
        name=name, summary=module.__doc__.strip().splitlines()[0], version=version, module=module.__name__,
        function=function, options={p.name: _option(p, hints[p.name]) for p in keyword}, takes=takes,
        adds=getattr(module, "Adds", None), needs=tuple(getattr(module, "NEEDS", ())),
        replaces=getattr(module, "REPLACES", False),
        makes_model=getattr(module, "MAKES_MODEL", False), makes_records=getattr(module, "MAKES_RECORDS", takes == "none"),
        reports=hints.get("return") is Report, rules=getattr(module, "check", None),
    )  # fmt: skip


def _option(parameter: inspect.Parameter, annotation: Any) -> Option:
    supplies: tuple[str, ...] = ()
    if typing.get_origin(annotation) is typing.Annotated:
        annotation, *marks = typing.get_args(annotation)
        supplies = next((m.names for m in marks if isinstance(m, Supplies)), ())
    for part in typing.get_args(annotation):
        if typing.get_origin(part) is typing.Annotated:  # Annotated[Prompt, …] | None
            inner, *marks = typing.get_args(part)
            supplies = next((m.names for m in marks if isinstance(m, Supplies)), ())
            annotation = inner | None
    required = parameter.default is inspect.Parameter.empty
    return Option(parameter.name, annotation, _kind(annotation), required, None if required else parameter.default, supplies)


def _kind(annotation: Any) -> Kind:
    if annotation == Inputs:  # with a default of nothing, or required
        return "inputs"
    inner = {a for a in typing.get_args(annotation) if a is not type(None)} or {annotation}
    if typing.get_origin(annotation) is dict and typing.get_args(annotation)[1] is Model:
        return "models"
    for mark, kind in ((Model, "model"), (Prompt, "prompt"), (Source, "source")):
        if annotation is mark or inner == {mark}:
            return kind  # type: ignore[return-value]
    return "plain"


def fault(value: Any, annotation: Any) -> str | None:
    """Why a YAML value does not fit an annotation (` is not …`, with the choices), or None where it fits."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return None
    if origin in (typing.Union, types.UnionType):
        faults = [fault(value, a) for a in args]
        return None if None in faults else " and ".join(f for f, a in zip(faults, args, strict=True) if f and a is not type(None))
    if origin is typing.Literal:
        return (
            None
            if any(value == a and type(value) is type(a) for a in args)
            else f"is not one of its values{choices(value, map(str, args))}"
        )
    if origin is list:
        return _inner(value, list, "a list", enumerate(value) if isinstance(value, list) else (), args[0])
    if origin in (dict, Mapping, typing.get_origin(Mapping[str, Any])):
        return _inner(value, dict, "a mapping", value.items() if isinstance(value, dict) else (), args[1])
    if annotation is float:
        return None if isinstance(value, int | float) and not isinstance(value, bool) else "is not a number"
    if annotation is int:
        return None if isinstance(value, int) and not isinstance(value, bool) else "is not a whole number"
    if annotation is bool:
        return None if isinstance(value, bool) else "is not true or false"
    if annotation is type(None):
        return None if value is None else "is not null"
    return None if isinstance(value, str) else "is not text"


def _inner(value: Any, kind: type, words: str, items: Iterable[tuple[Any, Any]], annotation: Any) -> str | None:
    if not isinstance(value, kind):
        return f"is not {words}"
    faults: Iterator[str] = (f"has {k!r}: {v!r}, which {f}" for k, v in items if (f := fault(v, annotation)))
    return next(faults, None)
