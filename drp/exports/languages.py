"""The languages of sources, as params.yaml tells them; what is not told is not guessed."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from drp.errors import ConfigError
from drp.pipeline.yamlfile import mapping
from drp.project import Project


@dataclass(frozen=True)
class Languages:
    """What params.yaml says under `languages`: a code (`en`) or a list of them, by the name of a source or how names begin."""

    known: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, project: Project) -> "Languages":
        """Those of the project as it lies here."""
        said = mapping(project.params).get("languages") or {}
        if not isinstance(said, dict):
            raise ConfigError(f"params.yaml: languages: {said!r} is no mapping of sources to codes, as `{{gym://: en}}`")
        return cls({str(name): tuple([code] if isinstance(code, str) else map(str, code)) for name, code in said.items()})

    def together(self, names: Iterable[str]) -> list[str]:
        """The languages of all of these that are told, each once, in order."""
        return sorted({code for name in names for code in self._of(name)})

    def _of(self, name: str) -> tuple[str, ...]:
        found = [key for key in self.known if key == name or (key.endswith("/") and name.startswith(key))]
        return self.known[max(found, key=len)] if found else ()
