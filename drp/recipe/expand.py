"""Expands a draft to flat stages: one for each choice of a level of every axis that touches it."""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from drp.ops import RESERVED
from drp.project import Project
from drp.recipe.axes import touching
from drp.recipe.checks import check_columns, check_from, check_key, check_whole
from drp.recipe.drafts import Draft, Drafts
from drp.recipe.limits import Prices, limits
from drp.recipe.names import Names
from drp.recipe.stages import Ref, Stage, Value
from drp.recipe.words import BUDGET


@dataclass(frozen=True)
class Expansion:
    """The stages of one recipe, growing draft by draft; the problems go to its drafts. `models` are those of params.yaml."""

    project: Project
    models: Collection[str]
    prices: Prices
    drafts: Drafts
    stages: dict[str, Stage] = field(default_factory=dict)
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def take(self, stage: Stage) -> None:
        """A parent's stage, as it is there."""
        self.stages[stage.ref.slug] = stage

    def expand(self, draft: Draft) -> None:
        """A draft of the recipe's own, after all that it is made from."""
        axes = self.axes[draft.name] = touching(self.drafts, draft, self.axes)
        for levels in itertools.product(*(self.drafts.axes[axis] for axis in axes)):
            self.take(self._variant(draft, dict(zip(axes, levels, strict=True))))

    def _variant(self, draft: Draft, levels: Mapping[str, str]) -> Stage:
        values = dict(draft.keys)
        for axis, level in levels.items():
            values.update(self.drafts.axes[axis][level].get(draft.name, {}))
        names = Names(self.drafts, self.models, levels, self.axes, self.stages)
        options = [(key, draft.op.options[key], value) for key, value in values.items() if key in draft.op.options]
        inputs = names.refs(values["from"]) if "from" in values else ()
        named = {key: names.refs(value) for key, option, value in options if option.kind == "inputs"}
        models = {key: names.roles(option, value) for key, option, value in options if option.kind in ("model", "models")}
        self._check(draft, values, {"from": inputs, **named})
        return Stage(
            ref=Ref(draft.owner, draft.name, tuple(levels.values())),
            op=draft.op,
            values={key: value for key, value in values.items() if key != BUDGET},
            inputs=inputs,
            named=named,
            models=models,
            prompts={k: v.data for k, option, v in options if option.kind == "prompt" and isinstance(v.data, str)},
            columns=draft.op.columns(self.stages[ref.slug].columns for ref in inputs),
            publish=self.drafts.publish.get(draft.name),
            limits=limits(self.prices, self.drafts, draft, models),
        )

    def _check(self, draft: Draft, values: Mapping[str, Value], inputs: Mapping[str, tuple[Ref, ...]]) -> None:
        problems, op = self.drafts.problems, draft.op
        for key, value in values.items():
            if key not in RESERVED:
                problems += check_key(self.project, op, key, value)
        problems += check_from(self.drafts, draft.name, op, values.get("from"), len(inputs["from"]))
        problems += check_whole(self.drafts, draft.name, op, values)
        problems += check_columns(op, values, {key: [self.stages[ref.slug] for ref in refs] for key, refs in inputs.items()})
