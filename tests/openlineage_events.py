"""OpenLineage events built from JSON by the classes of openlineage-python: an unknown or missing key, a wrong type fails."""

import importlib
import pkgutil
import typing
from typing import Any

import attr
import openlineage.client.generated as generated
from openlineage.client.generated import base


def _classes() -> dict[str, type]:
    modules = [
        importlib.import_module(f"{generated.__name__}.{found.name}") for found in pkgutil.iter_modules(generated.__path__)
    ]
    return {name: each for module in modules for name, each in vars(module).items() if isinstance(each, type) and attr.has(each)}


KNOWN = _classes()


def event(plain: dict[str, Any]) -> base.RunEvent:
    """A run event; what the specification lacks is an AssertionError or a TypeError."""
    return _build(base.RunEvent, plain)


def _build(cls: type, plain: dict[str, Any]) -> Any:
    hints, given = typing.get_type_hints(cls), {}
    for key, value in plain.items():
        if key in ("_schemaURL", "schemaURL"):
            assert value == cls._get_schema()
            continue
        assert key in hints, f"{cls.__name__} has no {key}"
        given[key.lstrip("_")] = _as(hints[key], value)
    return cls(**given)


def _as(hint: Any, value: Any) -> Any:
    inner = [each for each in typing.get_args(hint) if each is not type(None)]
    if type(None) in typing.get_args(hint):
        return None if value is None else _as(inner[0], value)
    if typing.get_origin(hint) is list:
        return [_as(inner[0], each) for each in value]
    if typing.get_origin(hint) is dict:
        facets = isinstance(inner[1], type) and issubclass(inner[1], base.BaseFacet)
        return {key: _facet(key, each) if facets else _as(inner[1], each) for key, each in value.items()}
    if attr.has(hint):
        return _build(hint, value)
    if issubclass(hint, base.EventType):
        return hint(value)
    assert isinstance(value, hint), f"{value!r} is not {hint}"
    return value


def _facet(key: str, plain: dict[str, Any]) -> Any:
    name = plain["_schemaURL"].rpartition("/")[2]
    if key.startswith("drp_"):  # a facet of our own: prefixed, with a producer and a schema
        assert name.startswith("Drp")
        return base.BaseFacet(producer=plain["_producer"]).with_additional_properties(
            **{k: v for k, v in plain.items() if k[0] != "_"}
        )
    return _build(KNOWN[name], plain)
