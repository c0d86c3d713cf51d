"""Fingerprints: the hash of what a thing is made of: values, files, folders, and the code a function reaches."""

import ast
import functools
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

SHORT = 16
"""Hex digits of a short fingerprint (64 bits)."""


def of_value(value: Any) -> str:
    """The sha256 (hex) of a value's canonical JSON: equal values, equal hash, on any machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


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


def of_code(module: str, names: tuple[str, ...], within: tuple[str, ...] = ("drp",)) -> str:
    """The hash of the code that top-level `names` of `module` reach, statically, inside the packages `within`.

    Followed at the grain of top-level definitions; docstrings, comments, annotations and formatting do not count, so
    that none of their edits reruns a stage. What is reached through a computed name is not seen: declare a new VERSION.
    """
    found: dict[tuple[str, str], str] = {}
    queue = [(module, name) for name in names]
    while queue:
        here = queue.pop()
        if here in found:
            continue
        code = _module(here[0])
        if code is not None and not here[1]:  # a whole module, imported by its name
            found[here] = code.whole
            queue += [(here[0], name) for name in code.definitions]
            continue
        if code is None or here[1] not in code.definitions:
            if code is not None and (origin := code.imports.get(here[1])):
                queue.append(origin)
            continue
        found[here] = code.definitions[here[1]]
        for used in code.uses[here[1]]:
            if used in code.definitions:
                queue.append((here[0], used))
            elif used in code.imports and code.imports[used][0].split(".")[0] in within:
                module_, name = code.imports[used]
                inner = f"{module_}.{name}" if name else module_
                queue.append((inner, "") if not name or _module(inner) is not None else (module_, name))
    return of_value(sorted([m, n, text] for (m, n), text in found.items()))[:SHORT]


class _Code:
    """One module's top-level definitions (normalised), what each uses, and what it imports by name."""

    def __init__(self, source: str, module: str) -> None:
        self.definitions: dict[str, str] = {}
        self.uses: dict[str, set[str]] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        tree = _Plain().visit(ast.parse(source))
        self.whole = ast.dump(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                above = module.split(".")[: -node.level] if node.level else []
                origin = ".".join([*above, *([node.module] if node.module else [])])
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = (origin, alias.name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports[alias.asname or alias.name.split(".")[0]] = (alias.name, "")
        for node in tree.body:
            for name in _defined(node):
                self.definitions[name] = self.definitions.get(name, "") + ast.dump(node)
                used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                used |= {a.name for n in ast.walk(node) if isinstance(n, ast.ImportFrom) for a in n.names}
                self.uses.setdefault(name, set()).update(used - {name})


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [t.id for t in node.targets if isinstance(t, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


class _Plain(ast.NodeTransformer):
    """Takes out what does not change what code does: docstrings and annotations of functions."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
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
