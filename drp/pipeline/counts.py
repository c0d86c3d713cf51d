"""Counts of every stage of a recipe (read, kept, dropped by reason), and their usage, for `dvc metrics`."""

import json
from typing import Any

from drp.errors import DataError
from drp.pipeline.work import write_json
from drp.project import Project
from drp.recipe.resolve import resolve_all


def collect(project: Project, name: str) -> dict[str, Any]:
    """Counts and usage by stage, from the manifests."""
    found: dict[str, Any] = {}
    for stage in resolve_all(project, [name])[name].own():
        if stage.op.reports:
            continue
        path = project.root / f"{stage.data}.manifest.json"
        if not path.exists():
            raise DataError(f"{stage.data}.manifest.json: no such file; run the stage that makes it, or `dvc checkout`")
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found[stage.ref.slug] = {**manifest["counts"], **{k: v for k, v in manifest["usage"].items() if k != "served"}}
    return found


def write(project: Project, name: str) -> None:
    """`recipes/<name>/reports/counts.json`."""
    write_json(project.root / "recipes" / name / "reports" / "counts.json", collect(project, name))
