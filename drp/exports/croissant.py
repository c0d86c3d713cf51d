"""Croissant 1.1: a data set as JSON-LD, with its fields, and for each value where it came from.

Facts of the format: mlcommons/croissant, docs/croissant-spec-1.1.md (PROV-O for data sets, files and fields; an annotation with
an `equivalentProperty` for single values). Nothing is read from the records but their schema.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from drp.errors import DataError
from drp.exports import parquet
from drp.exports.columns import HOLDS, added
from drp.exports.facts import Facts, Source, Speaker, sha256
from drp.exports.licences import UNKNOWN
from drp.exports.target import Target
from drp.lineage.graph import Node

PROV = "http://www.w3.org/ns/prov#"
PARQUET = "application/x-parquet"
CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "annotation": "cr:annotation", "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs", "column": "cr:column", "conformsTo": "dct:conformsTo", "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"}, "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileObject": "cr:fileObject", "fileProperty": "cr:fileProperty", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isArray": "cr:isArray", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "name": {"@container": "@language"}, "parentField": "cr:parentField", "path": "cr:path",
    "prov": PROV, "rai": "http://mlcommons.org/croissant/RAI/", "recordSet": "cr:recordSet", "references": "cr:references",
    "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace", "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform",
}  # fmt: skip
"""The standard context (https schema.org, as `mlcroissant` reads it), and PROV-O."""

ORIGINS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "question": (("source", "source", "wasDerivedFrom", "Its source (`revision`, `split` and `row` say where in it)."),),
    "thought": (("completion", "completion", "wasGeneratedBy", "The completion that the thought is of."),),
    "steps": (("span", "steps", "wasDerivedFrom", "The characters of `thought` that each step is."),),
    "actions": (("step", "actions", "wasDerivedFrom", "The step that each action is about, and what was done to it."),),
    "pruned": (
        ("sentence", "sentences", "wasDerivedFrom",
         "The sentences of `pruned`, and the steps that each came from: indices into `steps`, whose spans lie in `thought`."),
    ),
    "target": (
        ("sentence", "sentences", "wasDerivedFrom",
         "The sentences of the thought in `target` as spans of `pruned`, and of each the steps that it came from: indices into "
         "`steps`, whose spans lie in `thought`."),
        ("action", "actions", "wasDerivedFrom", "What was done to each of those steps, and why."),
    ),
}  # fmt: skip
"""By column: annotations (name, column that holds it, PROV property, words) that say where each of its values came from."""

TRAIL = {
    "record": (None, "The record that the row is about: its `id`."),
    "step": (None, "The index of the step (`steps`); -1: of none."),
    "skill": (None, "The skill of the step."),
    "action": (None, "What was done: keep, delete, rewrite or merge; of a sentence: verbatim, rewritten, merged or connective."),
    "reason": (None, "Why."),
    "src_start": ("wasDerivedFrom", "Where the source span begins, in characters of `thought`."),
    "src_end": ("wasDerivedFrom", "Where it ends; the character there is not of it."),
    "out_start": (None, "Where the sentence begins, in characters of `pruned`."),
    "out_end": (None, "Where it ends."),
    "parents": ("wasDerivedFrom", "The records of the inputs that this one is, `<input>:<id>`."),
    "completion": ("wasGeneratedBy", "The key of the completion that said so."),
}
"""The trail's columns: PROV property of its value, and words."""


def export(facts: Facts, target: Target) -> str:
    """The JSON-LD of the data sets that a target is; DataError where it makes no records, or they are nowhere."""
    if target.model:
        raise DataError(
            f"{target.name}: a model, and Croissant describes data; `drp export card {target.name}` describes the model, "
            f"`drp export croissant {facts.graph.inputs(target.model)[0].address}` what it was trained on"
        )
    return json.dumps(facts.public(_Document(facts, target).plain()), indent=1, ensure_ascii=False) + "\n"


class _Document:
    """One JSON-LD document; `names` are the ids of record sets by stage."""

    def __init__(self, facts: Facts, target: Target) -> None:
        self.facts, self.target = facts, target
        self.nodes = [node for node in target.nodes if node.base]
        if not self.nodes:
            raise DataError(f"{target.name}: makes no records; Croissant describes data sets")
        short = len({node.slug for node in self.nodes}) == len(self.nodes)
        self.names = {node.address: node.slug if short else node.address.replace("/", ".") for node in self.nodes}

    def plain(self) -> dict[str, Any]:
        """All of it."""
        names = self.facts.names(self.nodes)
        licences = [_licence(name) for name in self.facts.licences.together(names)]
        origins = [self.facts.origins.of(node) for node in self.nodes]
        files, sets = [], []
        for node in self.nodes:
            files.append(self._file(node))
            sets.append(self._records(node))
            for trail in self._trails(node):
                files.append(self._file(trail, ".trail"))
                sets.append(self._trail(trail))
        doubts = [d for node in self.nodes for d in self.facts.changed(f"{node.base}.parquet", node)]
        doubts += self.facts.doubts(self.facts.line(self.nodes))
        found = {
            "@context": CONTEXT,
            "@type": "sc:Dataset",
            "name": self._name(),
            "description": self._words(doubts),
            "conformsTo": "http://mlcommons.org/croissant/1.1",
            "license": licences or [UNKNOWN],
            "version": self._version(),
            "keywords": ["reasoning", "chain of thought", "model-generated", "drp"],
            "prov:wasDerivedFrom": [_source(source, self.facts) for source in self.facts.sources(self.nodes)],
            "prov:wasGeneratedBy": [self._activity(node) for node in self.nodes],
            "prov:wasAttributedTo": self._agents(),
            "distribution": list({file["@id"]: file for file in files}.values()),
            "recordSet": list({each["@id"]: each for each in sets}.values()),
        }
        if all(origin.commit for origin in origins):
            found["dateCreated"] = found["datePublished"] = max(origin.date for origin in origins)
        order = ("@context", "@type", "name", "description", "conformsTo", "license", "version", "dateCreated", "datePublished")
        return {**{key: found[key] for key in order if key in found}, **found}

    # -- the data set ----------------------------------------------------------------------------------------------------

    def _name(self) -> str:
        return self.target.recipe or "-".join(node.address.replace("/", "-") for node in self.nodes)

    def _version(self) -> str:
        """No release has a number: the contents tell versions apart, as a build of 0.0.0."""
        marks = [node.outs[f"{node.base}.parquet"].md5[:12] for node in self.nodes]
        return "0.0.0+" + ".".join(marks)

    def _words(self, doubts: list[str]) -> str:
        recipe = self.facts.snapshot.mapping(f"recipes/{self.nodes[0].recipe}/recipe.yaml").get("description", "")
        said = [
            f"{str(recipe).rstrip('.')}." if recipe else "",
            f"Made by drp, stage {', '.join(n.address for n in self.nodes)}.",
        ]
        return " ".join([*filter(None, said), *([f"Beware: {'; '.join(doubts)}."] if doubts else [])])

    def _activity(self, node: Node) -> dict[str, Any]:
        origin = self.facts.origins.of(node)
        agents = [self._drp(), *map(_agent, self.facts.speakers(node))]
        words = f"drp stage {node.recipe} {node.slug}" + (f", git commit {origin.commit}" if origin.commit else "")
        return {
            "@type": "prov:Activity",
            "@id": f"activity/{node.address}",
            "prov:label": words,
            "prov:wasAssociatedWith": [{"@id": agent["@id"]} for agent in agents],
        }

    def _drp(self) -> dict[str, Any]:
        version = self.facts.version(self.nodes[-1])
        return {"@type": "prov:SoftwareAgent", "@id": f"agent/drp-{version}", "prov:label": f"drp {version}"}

    def _agents(self) -> list[dict[str, Any]]:
        agents = [self._drp()]
        for node in self.facts.line(self.nodes):
            agents += [_agent(speaker) for speaker in self.facts.speakers(node)]
        return list({agent["@id"]: agent for agent in agents}.values())

    # -- files -----------------------------------------------------------------------------------------------------------

    def _file(self, node: Node, part: str = "") -> dict[str, Any]:
        path = f"{node.base}{part}.parquet"
        file = self.facts.snapshot.data(path, node.outs[path])
        found: dict[str, Any] = {
            "@type": "cr:FileObject", "@id": path, "name": path.rpartition("/")[2], "contentUrl": path,
            "contentSize": f"{file.stat().st_size} B", "encodingFormat": PARQUET, "sha256": sha256(file),
        }  # fmt: skip
        if not part:
            found["prov:wasGeneratedBy"] = {"@id": f"activity/{node.address}"}
        return found

    def _trails(self, node: Node) -> Iterator[Node]:
        """The stages on the way to a data set whose trails have rows of its records."""
        for each in self.facts.line([node]):
            path = f"{each.base}.trail.parquet"
            if path in each.outs and parquet.rows(self.facts.snapshot.data(path, each.outs[path])):
                yield each

    # -- record sets -----------------------------------------------------------------------------------------------------

    def _records(self, node: Node) -> dict[str, Any]:
        path = f"{node.base}.parquet"
        file = self.facts.snapshot.data(path, node.outs[path])
        schema, rows = parquet.schema(file), parquet.rows(file)
        name, authors = self.names[node.address], self._authors(node, schema.names)
        fields = []
        for column in schema:
            field = _field(f"{name}/{column.name}", column.type, path, column.name, (), HOLDS.get(column.name, ""))
            field |= {relation: {"@id": value} for relation, value in authors.get(column.name, {}).items()}
            if notes := list(_notes(name, column.name, schema, path)):
                field["annotation"] = notes
            fields.append(field)
        key = {"key": {"@id": f"{name}/id"}} if "id" in schema.names else {}
        return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": f"{rows} records of stage {node.address}.",
                **key, "field": fields}  # fmt: skip

    def _authors(self, node: Node, columns: Iterable[str]) -> dict[str, dict[str, str]]:
        """Of each column: the stage that wrote it last, and the model that spoke there, where only one did."""
        found: dict[str, dict[str, str]] = {}
        for each in self.facts.line([node]):
            adds = added(each, self.facts.snapshot.project)
            for column in columns:
                if column in (adds or ()):
                    agents = {_agent(speaker)["@id"] for speaker in self.facts.speakers(each)}
                    author = {"prov:wasAttributedTo": agents.pop()} if len(agents) == 1 else {}
                    found[column] = {"prov:wasGeneratedBy": f"activity/{each.address}", **author}
        return found

    def _trail(self, node: Node) -> dict[str, Any]:
        path = f"{node.base}.trail.parquet"
        name, fields = f"trail-{node.address.replace('/', '-')}", []
        file = self.facts.snapshot.data(path, node.outs[path])
        for column in parquet.schema(file):
            relation, words = TRAIL.get(column.name, (None, ""))
            field = _field(f"{name}/{column.name}", column.type, path, column.name, (), words)
            fields.append(field | ({"equivalentProperty": f"prov:{relation}"} if relation else {}))
        words = f"Trail of stage {node.address}: {parquet.rows(file)} rows, each what was done to a step of a record."
        return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": words, "field": fields}


# -- parts ---------------------------------------------------------------------------------------------------------------


def _field(name: str, kind: Any, file: str, column: str, path: tuple[str, ...], words: str = "") -> dict[str, Any]:
    """A field by its Arrow type: a list is an array, a struct has sub-fields, each taken from the column by its JSON path."""
    import pyarrow as pa

    found: dict[str, Any] = {"@type": "cr:Field", "@id": name, "name": name.rpartition("/")[2]}
    inner = kind
    if pa.types.is_list(kind):
        found |= {"isArray": True, "arrayShape": "-1"}
        inner = kind.value_type
    if pa.types.is_struct(inner):
        # a list of structs inside a struct: mlcroissant's JSON path gives only the first of several values
        deep = [f for f in inner if path or not _plain(f.type)]
        words = " ".join([words, *(f"`{f.name}`, deeper in it, is not described." for f in deep)]).strip()
        found["subField"] = [
            _field(f"{name}/{f.name}", f.type, file, column, (*path, f.name)) for f in inner if f not in deep
        ]  # fmt: skip
    else:
        found["dataType"] = _type(inner)
        found["source"] = {"fileObject": {"@id": file}, "extract": {"column": column}}
        if path:
            found["source"]["transform"] = {"jsonPath": ".".join(("$", *path))}
    return found | ({"description": words} if words else {})


def _plain(kind: Any) -> bool:
    """Whether values of a type are single, or lists of single ones."""
    import pyarrow as pa

    return not pa.types.is_nested(kind.value_type if pa.types.is_list(kind) else kind)


def _type(kind: Any) -> str:
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"


def _notes(name: str, column: str, schema: Any, path: str) -> Iterator[dict[str, Any]]:
    """The annotations of a column: where each of its values came from, by another column of the same record."""
    for label, holder, relation, words in ORIGINS.get(column, ()):
        if holder in schema.names:
            field = _field(f"{name}/{column}/from-{label}", schema.field(holder).type, path, holder, (), words)
            yield {**field, "equivalentProperty": f"prov:{relation}"}


def _agent(speaker: Speaker) -> dict[str, Any]:
    words = " ".join(filter(None, (speaker.name, speaker.revision, speaker.file)))
    return {"@type": "prov:SoftwareAgent", "@id": f"agent/model/{speaker.key}", "prov:label": f"model {words}"}


def _source(source: Source, facts: Facts) -> dict[str, Any]:
    """A source as an entity: its address where it has one, what pins it, and which part was taken."""
    found = {
        "@type": "prov:Entity", "@id": f"source/{source.stage}", "prov:label": source.name, "version": source.revision,
        "description": source.part, "license": _licence(facts.licences.licence(source.name)), "url": source.url,
    }  # fmt: skip
    return {key: value for key, value in found.items() if value}


def _licence(name: str) -> str:
    """By its SPDX page, as Croissant asks, where it is one word; `unknown` stays a word."""
    spdx = {
        "apache-2.0": "Apache-2.0",
        "mit": "MIT",
        "cc-by-4.0": "CC-BY-4.0",
        "cc-by-sa-4.0": "CC-BY-SA-4.0",
        "cc0-1.0": "CC0-1.0",
    }
    return f"https://spdx.org/licenses/{spdx[name]}.html" if name in spdx else name
