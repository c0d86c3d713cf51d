"""Prompts: Jinja files rendered to chat messages; strict about variables, closed under include."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import jinja2.nodes

from drp.errors import ConfigError, choices
from drp.fingerprint import of_file, of_value
from drp.models import Message, Role

ROLES: tuple[Role, ...] = ("system", "user")


def _environment(folder: Path) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        autoescape=False,
    )


@dataclass(frozen=True)
class Prompt:
    """A prompt file `<folder>/<name>.j2`.

    Blocks named `system` and `user` become messages; a file without them is one user message. Leading and trailing
    blank space of a message is cut.
    """

    folder: Path
    name: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / f"{self.name}.j2"

    @cached_property
    def _template(self) -> jinja2.Template:
        try:
            return _environment(self.folder).get_template(f"{self.name}.j2")
        except jinja2.TemplateNotFound as error:
            known = [p.stem for p in self.folder.glob("*.j2")]
            raise ConfigError(f"{self.folder}: no prompt file {error.name!r}{choices(self.name, known)}") from error
        except jinja2.TemplateSyntaxError as error:
            raise ConfigError(f"{self.folder / (error.name or self.path.name)}:{error.lineno}: {error.message}") from error

    @cached_property
    def closure(self) -> tuple[Path, ...]:
        """This file and every file that it includes, extends or imports, at any depth; ConfigError where one is missing."""
        seen: dict[str, None] = {}
        queue = [f"{self.name}.j2"]
        while queue:
            name = queue.pop()
            if name in seen:
                continue
            seen[name] = None
            for other in jinja2.meta.find_referenced_templates(self._parse(name)):
                if other is None:
                    raise ConfigError(f"{self.folder / name}: an include whose name is computed cannot be tracked; write it out")
                queue.append(other)
        return (self.path, *sorted(self.folder / n for n in seen if n != f"{self.name}.j2"))

    @cached_property
    def variables(self) -> frozenset[str]:
        """The variables that the closure needs from outside."""
        found: set[str] = set()
        for path in self.closure:
            found |= jinja2.meta.find_undeclared_variables(self._parse(path.relative_to(self.folder).as_posix()))
        return frozenset(found)

    def _parse(self, name: str) -> jinja2.nodes.Template:
        path = self.folder / name
        try:
            return _environment(self.folder).parse(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            known = [p.stem for p in self.folder.glob("*.j2")]
            raise ConfigError(f"{self.folder}: no prompt file {name!r}{choices(Path(name).stem, known)}") from error
        except jinja2.TemplateSyntaxError as error:
            raise ConfigError(f"{path}:{error.lineno}: {error.message}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error

    def fingerprint(self) -> str:
        """The hash of the closure's bytes."""
        return of_value([[p.name, of_file(p)] for p in self.closure])

    def render(self, **variables: Any) -> tuple[Message, ...]:
        """The chat messages; ConfigError where the prompt asks for a variable that is not given."""
        template = self._template
        try:
            blocks = [role for role in ROLES if role in template.blocks]
            if not blocks:
                return (Message("user", template.render(**variables).strip()),)
            context = template.new_context(variables)
            texts = [(role, "".join(template.blocks[role](context)).strip()) for role in blocks]
        except jinja2.UndefinedError as error:
            raise ConfigError(f"{self.path}: {error.message}; this op supplies: {', '.join(sorted(variables))}") from error
        return tuple(Message(role, text) for role, text in texts if text)
