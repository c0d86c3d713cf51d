"""Imports point down, heavy ones stay inside functions, and every module says what it is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "drp"
FLOORS = [
    {"errors", "disk", "fence", "landlock", "mortality", "processes"},
    {"records", "sorting", "text", "fingerprint", "statistics", "narration", "pieces", "replies"},
    {"models", "prompts", "teaching", "sources", "verifiers"},
    {"remote", "assembly", "style", "answering", "chat", "weights", "decoding", "pretraining", "targets", "training", "rules"},
    {"backends", "flight", "insisting"},
    {"asking", "op", "store", "money"},
    {"ops", "serving"},
    {"project", "recipe"},
    {"pipeline"},
    {"exports", "lineage", "comparing", "auditing", "withdrawing", "planning", "running"},
    {"commands"},
    {"cli", "__main__"},
]
HEAVY = {
    "aiohttp",
    "torch",
    "transformers",
    "datasets",
    "pyarrow",
    "numpy",
    "peft",
    "openai",
    "vllm",
    "math_verify",
    "reasoning_gym",
    "dvc",
    "sympy",
    "duckdb",
    "huggingface_hub",
    "mlcroissant",
    "prov",
    "openlineage",
}
MODULES = sorted(ROOT.rglob("*.py"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def _floor(name: str) -> int:
    found = [k for k, floor in enumerate(FLOORS) if name in floor]
    assert found, f"drp/{name} has no floor: choose one in docs/architecture.md and here"
    return found[0]


def _imports(tree: ast.AST) -> list[str]:
    found = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    return found + [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]


def _from_drp(tree: ast.AST) -> set[str]:
    names = {m.split(".")[1] for m in _imports(tree) if m.startswith("drp.")}
    top = [a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "drp" for a in n.names]
    return names | {n for n in top if n != "__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    if path == ROOT / "__init__.py":
        return
    here = _floor(_name(path))
    up = {name for name in _from_drp(ast.parse(path.read_text())) if _floor(name) > here}
    assert not up, f"{path.name} (floor {here}) imports {up}, which is above it"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_says_what_it_is_and_keeps_heavy_imports_inside_functions(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert (ast.get_docstring(tree) or "").splitlines()[:1], "no first line"
    guarded = [n for n in tree.body if isinstance(n, ast.If)]  # if TYPE_CHECKING
    top = ast.Module([n for n in tree.body if n not in guarded and isinstance(n, ast.Import | ast.ImportFrom)], [])
    heavy = {m.split(".")[0] for m in _imports(top)} & HEAVY
    assert not heavy, f"{path.name} imports {heavy} at its top"


def test_the_command_line_loads_nothing_heavy() -> None:
    told = "print(*sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)"
    code = f"import atexit, sys; from drp.cli import main; atexit.register(lambda: {told}); main(['--help'])"
    ended = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    loaded = set(ended.stderr.split())
    assert "drp" in loaded
    assert not loaded & (HEAVY | {"jinja2", "ruamel"})
