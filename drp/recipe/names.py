"""What the names in a stage's keys mean: other stages, and models."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from drp.errors import choices
from drp.ops import Option
from drp.recipe.drafts import Drafts, listed
from drp.recipe.stages import Ref, RoleUse, Stage, Value


@dataclass(frozen=True)
class Names:
    """The names that one variant of a stage can use: the stages expanded `so_far`, the models of params.yaml.

    `levels` are the variant's own, axis: level; `axes` those by which each stage was expanded.
    """

    drafts: Drafts
    models: Collection[str]
    levels: Mapping[str, str]
    axes: Mapping[str, tuple[str, ...]]
    so_far: Mapping[str, Stage]

    def refs(self, value: Value) -> tuple[Ref, ...]:
        """The stages that a value names."""
        return tuple(ref for name in listed(value) for ref in self._refs(value, name))

    def _refs(self, value: Value, name: str) -> list[Ref]:
        """The variants meant: all of them with `@*`, else the one of the same levels."""
        bare = name.removesuffix("@*")
        if bare not in self.drafts.stages:
            self.drafts.problems.append(value.problem(f"{name!r} is not a stage{choices(bare, self.drafts.stages)}"))
            return []
        found = [stage.ref for stage in self.so_far.values() if stage.ref.name == bare]
        if name.endswith("@*"):
            return found
        wanted = tuple(self.levels[axis] for axis in self.axes.get(bare, ()))
        return [ref for ref in found if ref.variant == wanted]

    def roles(self, option: Option, value: Value) -> dict[str, RoleUse]:
        """The models that a value names, by label (`""` for an option of one model)."""
        entries = value.data if option.kind == "models" else {"": value.data}
        if value.data is None and not option.required:
            return {}
        if not isinstance(entries, dict) or not all(isinstance(role, str) for role in entries.values()):
            self.drafts.problems.append(value.problem(f"{value.data!r} does not name models"))
            return {}
        return {label: self._role(value, role) for label, role in entries.items()}

    def _role(self, value: Value, role: str) -> RoleUse:
        bindings, makers = self.drafts.bindings, self.drafts.makers()
        if role in bindings:
            return RoleUse(str(bindings[role].data), binding=bindings[role])
        if role in makers:
            return self._made(value, role)
        if role not in self.models:
            words = f"{role!r} is neither a model of params.yaml nor a stage that makes one"
            self.drafts.problems.append(value.problem(words + choices(role, {*self.models, *bindings, *makers})))
        return RoleUse(role)

    def _made(self, value: Value, maker: str) -> RoleUse:
        """The model of a stage; what is trained on top of the option `model` is an adapter of that."""
        refs = self._refs(value, maker)
        if not refs:
            return RoleUse(maker)
        stage = self.so_far[refs[0].slug]
        return RoleUse(maker, stage=stage.ref, folder=stage.model_path, base=stage.models.get("model", {}).get(""))
