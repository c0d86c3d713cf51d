"""The JSON Schema of recipes, from the ops' signatures: for completion and checks in editors."""

import types
import typing
from collections.abc import Mapping
from typing import Any

from drp import ops
from drp.ops import Op, Option
from drp.project import Project
from drp.recipe.words import BUDGET, TOP

STAGE_BUDGET = "the most that the stage may spend, in all its variants together; never tracked"
_MONEY = {"type": ["number", "null"], "minimum": 0}


def schema(project: Project) -> dict[str, Any]:
    """A JSON Schema (2020-12) that every good recipe of this project fits. `drp check` is stricter: it follows names."""
    root = project.ops_root
    found = [ops.get(name, root) for name in ops.names(root)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "drp recipe",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "description": {"type": "string", "description": TOP["description"]},
            "extends": {**_one_or_more(), "description": TOP["extends"]},
            "models": {"type": "object", "additionalProperties": {"type": "string"}, "description": TOP["models"]},
            "publish": {"type": "object", "additionalProperties": {"type": "string"}, "description": TOP["publish"]},
            "budget": {**_MONEY, "description": TOP["budget"]},
            "axes": {
                "type": "object",
                "description": TOP["axes"],
                "additionalProperties": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
            },
            "stages": {
                "type": "object",
                "description": TOP["stages"],
                "additionalProperties": {
                    "type": "object",
                    "properties": {"op": {"enum": [op.name for op in found]}},
                    "allOf": [_when(op) for op in found],
                },
            },
        },
    }


def _when(op: Op) -> dict[str, Any]:
    inputs: dict[str, Any] = {"none": {}, "one": {"from": {"type": "string"}}, "several": {"from": _one_or_more()}}[op.takes]
    asks = not op.makes_model and any(o.kind in ("model", "models") for o in op.options.values())
    budget = {BUDGET: {**_MONEY, "description": STAGE_BUDGET}} if asks else {}
    return {
        "if": {"properties": {"op": {"const": op.name}}, "required": ["op"]},
        "then": {
            "description": op.summary,
            "additionalProperties": False,
            "properties": {"op": True, **inputs, **budget, **{o.name: _option(o) for o in op.options.values()}},
            "required": ["op", *inputs, *(o.name for o in op.options.values() if o.required)],
        },
    }


def _option(option: Option) -> dict[str, Any]:
    if option.kind == "inputs":
        return _one_or_more()
    if option.kind == "models":
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if option.kind in ("model", "prompt", "source"):
        return {"type": "string"} if option.required else {"type": ["string", "null"]}
    return of_annotation(option.annotation)


def of_annotation(annotation: Any) -> dict[str, Any]:
    """The schema of one annotation."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [of_annotation(a) for a in args]}
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin is list:
        return {"type": "array", "items": of_annotation(args[0])}
    if origin in (dict, typing.get_origin(Mapping[str, Any])):
        return {"type": "object", "additionalProperties": of_annotation(args[1])}
    names = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    return {"type": names[annotation]} if annotation in names else {}


def _one_or_more() -> dict[str, Any]:
    return {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
