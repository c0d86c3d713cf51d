"""How long training took: what the last run of a stage that makes a model said of itself."""

from dataclasses import dataclass
from typing import Any

from drp.pipeline.progress import load
from drp.planning.forecast import Fate
from drp.project import Project


@dataclass(frozen=True)
class Training:
    """A stage that would make a model. `seconds` are those of its last run here that came to its end; None: none is known."""

    seconds: float | None

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"seconds": self.seconds}


def training(project: Project, fate: Fate) -> Training | None:
    """Of a stage that may run; None where it makes no model."""
    stage = fate.entry.stage
    if not fate.open or stage is None or not stage.op.makes_model:
        return None
    seen = load(project.scratch / "progress" / f"{stage.ref.recipe}.{stage.ref.slug}.json")
    return Training(seen.seconds(seen.updated) if seen and seen.state == "done" else None)
