"""What is generated from the code is current."""

import json
from pathlib import Path

import jsonschema
import pytest

from drp.project import Project
from drp.recipe.read import load
from drp.recipe.reference import reference
from drp.recipe.schema import schema

ROOT = Path(__file__).parents[1]


def test_the_recipe_reference_is_current() -> None:
    assert (ROOT / "docs/recipe.md").read_text() == reference(None), "run `make docs`"


def test_the_json_schema_is_current_and_valid() -> None:
    current = schema(Project(ROOT))
    jsonschema.Draft202012Validator.check_schema(current)
    assert json.loads((ROOT / "recipes/schema.json").read_text()) == current, "run `make docs`"


@pytest.mark.parametrize("name", Project(ROOT).recipes())
def test_every_shipped_recipe_fits_the_schema(name: str) -> None:
    text = (ROOT / "recipes" / name / "recipe.yaml").read_text()
    jsonschema.validate(load(text), schema(Project(ROOT)))
    assert text.startswith("# yaml-language-server: $schema=../schema.json\n")


def test_the_schema_refuses_an_unknown_key() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"stages": {"a": {"op": "load", "sorce": "x"}}}, schema(Project(ROOT)))
