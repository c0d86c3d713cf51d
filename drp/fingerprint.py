"""Fingerprints: the hash of what a thing is made of: values, files, folders, and the code a function reaches."""

import ast
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SHORT = 16
"""Hex digits of a short fingerprint (64 bits)."""


def of_value(value: Any) -> str:
    """The sha256 (hex) of a value's canonical JSON: equal values, equal hash, on any machine."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def canonical(value: Any) -> str:
    """JSON that is the same for equal values: sorted keys, no blanks, letters as they are; ValueError for NaN."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def of_file(path: Path) -> str:
    """The sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_path(path: Path) -> str:
    """The fingerprint of a file, or of a folder's files by their relative names (`__pycache__` apart)."""
    if path.is_file():
        return of_file(path)
    files = sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts and p.name != ".gitignore")
    return of_value([[p.relative_to(path).as_posix(), of_file(p)] for p in files])


def seed_of(*parts: str | int) -> int:
    """A 63-bit seed that depends on the parts alone, so that adding a record changes no other record's random stream."""
    return int(of_value(list(parts))[:16], 16) >> 1


def of_code(module: str, names: Iterable[str], within: Iterable[str] = ("drp",)) -> str:
    """The hash of the code that top-level `names` of `module` reach, statically, inside the packages `within`.

    Followed at the grain of top-level definitions; docstrings, comments, annotations and formatting do not count, so
    that none of their edits reruns a stage. What is reached through a computed name is not seen: declare a new VERSION.
    """
    return _of_code(module, tuple(names), frozenset(within))


@functools.cache
def _of_code(module: str, names: tuple[str, ...], inside: frozenset[str]) -> str:
    found: dict[tuple[str, str], str] = {}
    queue = [(module, name) for name in names]
    while queue:
        here = queue.pop()
        if here in found:
            continue
        code = _module(here[0])
        if code is not None and not here[1]:  # a whole module, imported by its name
            found[here] = code.whole
            queue += [(here[0], name) for name in code.names]
            continue
        if code is None or here[1] not in code.names:
            if code is not None and (origin := code.imports.get(here[1])):
                queue.append(origin)
            continue
        found[here] = code.definition(here[1])
        for used in code.uses(here[1]):
            if used in code.names:
                queue.append((here[0], used))
            elif used in code.imports and code.imports[used][0].split(".")[0] in inside:
                module_, name = code.imports[used]
                inner = f"{module_}.{name}" if name else module_
                queue.append((inner, "") if not name or _module(inner) is not None else (module_, name))
    return of_value(sorted([m, n, text] for (m, n), text in found.items()))[:SHORT]


class _Code:
    """One module's top-level definitions, what each uses, and what it imports by name; normalised where it is asked for.

    A statement belongs to every name that it binds or changes; one that does neither (`register(x)`) to all of them.
    """

    def __init__(self, source: str, module: str) -> None:
        self.imports: dict[str, tuple[str, str]] = {}
        self._tree = ast.parse(source)
        for node in ast.walk(self._tree):
            self._import(node, module)
        self._statements: dict[str, list[ast.stmt]] = {}
        statements = [n for n in self._tree.body if not isinstance(n, ast.Import | ast.ImportFrom) and not _is_text(n)]
        bound = [(node, _bound(node)) for node in statements]
        everyone = set().union(*(names for _, names in bound))
        for node, names in bound:
            for name in names or everyone:
                self._statements.setdefault(name, []).append(node)

    @property
    def names(self) -> Iterable[str]:
        """The names of its definitions."""
        return self._statements.keys()

    @functools.cached_property
    def whole(self) -> str:
        """The module, normalised."""
        return ast.unparse(_Plain().visit(self._tree))

    def definition(self, name: str) -> str:
        """The statements that make `name`, normalised."""
        return "".join(ast.unparse(_Plain().visit(node)) + "\n" for node in self._statements[name])

    def uses(self, name: str) -> set[str]:
        """The names that its normalised statements mention."""
        nodes = [n for statement in self._statements[name] for n in ast.walk(_Plain().visit(statement))]
        used = {n.id for n in nodes if isinstance(n, ast.Name)}
        used |= {a.asname or a.name for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
        return used - {name}

    def _import(self, node: ast.AST, module: str) -> None:
        if isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            self.imports.update({alias.asname or alias.name: (origin, alias.name) for alias in node.names})
        elif isinstance(node, ast.Import):
            self.imports.update({a.asname or a.name.split(".")[0]: (a.name, "") for a in node.names})


def _is_text(node: ast.stmt) -> bool:
    """A docstring, or another constant that stands by itself."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _bound(node: ast.stmt) -> set[str]:
    """The top-level names that a statement binds or changes (`T[k] = v` changes T)."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.If | ast.For | ast.While | ast.With | ast.Try):
        inner = [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]
        handlers = [s for h in getattr(node, "handlers", []) for s in h.body]
        target = {n.id for n in ast.walk(getattr(node, "target", ast.Pass())) if isinstance(n, ast.Name)}
        return target.union(*map(_bound, [*inner, *handlers]))
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Delete):
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
        return set().union(*map(_roots, targets))
    return set()


def _roots(target: ast.expr) -> set[str]:
    while isinstance(target, ast.Subscript | ast.Attribute | ast.Starred):
        target = target.value
    if isinstance(target, ast.Tuple | ast.List):
        return set().union(*map(_roots, target.elts))
    return {target.id} if isinstance(target, ast.Name) else set()


class _Plain(ast.NodeTransformer):
    """Takes out what does not change what code does: docstrings and annotations of functions."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not _is_text(s)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        return node


@functools.cache
def _module(name: str) -> _Code | None:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # its parent is a module, not a package
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return _Code(Path(spec.origin).read_text(encoding="utf-8"), name)
