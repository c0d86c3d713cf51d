"""The licences of sources and models, as params.yaml tells them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from drp.pipeline.yamlfile import mapping
from drp.project import Project

UNKNOWN = "unknown"
"""The hub's own word for a licence that nobody told."""


@dataclass(frozen=True)
class Licences:
    """What params.yaml says under `licences`: the name of a source or model, or the beginning of names (it ends in `/`)."""

    known: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, project: Project) -> "Licences":
        """Those of the project as it lies here: a licence is what is known today, also of what was made long ago."""
        return cls({str(k): str(v) for k, v in (mapping(project.params).get("licences") or {}).items()})

    def licence(self, name: str) -> str:
        """The licence of a source or a model; `unknown` where nothing is said."""
        if name in self.known:
            return self.known[name]
        found = [key for key in self.known if key.endswith("/") and name.startswith(key)]
        return self.known[max(found, key=len)] if found else UNKNOWN

    def together(self, names: Iterable[str]) -> list[str]:
        """The licences of all of these, each once, in order; `unknown` last."""
        found = {self.licence(name) for name in names}
        return [*sorted(found - {UNKNOWN}), *(found & {UNKNOWN})]

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of which nothing is said."""
        return sorted({name for name in names if self.licence(name) == UNKNOWN})
