"""OpenLineage: a run for each stage, as START and COMPLETE events, a JSON line each.

Facets by their specifications (openlineage.io/spec, as openlineage-python 1.54 has them). Run ids are made from the lock entries.
"""

import datetime
import json
import uuid
from collections.abc import Iterator
from typing import Any

from drp import __version__
from drp.exports import parquet
from drp.exports.columns import CHOSEN, made_from
from drp.exports.facts import Facts, Source
from drp.exports.target import Target
from drp.fingerprint import of_value
from drp.lineage.graph import Node
from drp.pipeline.locked import Made

NAMESPACE = "drp"
"""Of jobs, and of the project's own files."""
SPEC = "https://openlineage.io/spec"
RUN_EVENT = f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
PRODUCER = f"https://drp.invalid/{__version__}"
"""Who wrote the events; drp has no address on the web (`.invalid`, RFC 2606)."""
OWN = "https://drp.invalid/facets/1-0-0/{0}.json#/$defs/{0}"
VERSIONS = {
    "SchemaDatasetFacet": "1-2-0", "ColumnLineageDatasetFacet": "1-2-0", "DatasetVersionDatasetFacet": "1-0-1",
    "JobTypeJobFacet": "2-0-4", "SourceCodeLocationJobFacet": "1-1-0", "SourceCodeJobFacet": "1-0-1",
    "DocumentationJobFacet": "1-1-0", "ProcessingEngineRunFacet": "1-1-1", "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "DatasetTypeDatasetFacet": "1-0-1",
}  # fmt: skip
RUNS = uuid.uuid5(uuid.NAMESPACE_URL, "https://drp.invalid/run")

WHEN = {
    "commit": "the time of the commit that brought the stage's lock entry: it had ended by then; when it ran is not recorded",
    "file": "the stage's outcome is in no commit: the time of its manifest (or report) as it lies here",
    "nothing": "the stage's outcome is in no commit, and lies nowhere here: no time is known, and the epoch stands for it",
}
"""What an event's time is, by what gave it."""


def export(facts: Facts, target: Target) -> str:
    """The events of a recipe, or of all that a stage or a file was made from, in the order of making."""
    graph = facts.graph
    wanted = [n for n in graph.nodes.values() if n.recipe == target.recipe] if target.recipe else list(target.nodes)
    events = _Events(facts)
    told = (facts.public(event) for node in graph.above(wanted) for event in events.of(node))
    lines = [json.dumps(event, ensure_ascii=False, sort_keys=True) for event in told]
    return "".join(f"{line}\n" for line in lines)


class _Events:
    """The events of a graph's stages."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.graph, self.snapshot = facts, facts.graph, facts.snapshot

    def of(self, node: Node) -> Iterator[dict[str, Any]]:
        """START and COMPLETE of the run that made what the lock names."""
        time, kind = self._time(node)
        base = {
            "eventTime": time,
            "producer": PRODUCER,
            "schemaURL": RUN_EVENT,
            "run": self._run(node, kind),
            "job": self._job(node),
        }
        inputs, outputs = self._inputs(node), self._outputs(node)
        bare = [{key: each[key] for key in ("namespace", "name")} for each in outputs]
        yield {**base, "eventType": "START", "inputs": inputs, "outputs": bare}
        yield {**base, "eventType": "COMPLETE", "inputs": inputs, "outputs": outputs}

    def _time(self, node: Node) -> tuple[str, str]:
        """When, and by what; always in UTC, to the second."""
        origin = self.facts.origins.of(node)
        if origin.commit:
            return _utc(datetime.datetime.fromisoformat(origin.date)), "commit"
        path = next(iter(sorted(p for p in node.outs if p.endswith((".manifest.json", ".json")))), None)
        file = self.snapshot.find(path, node.outs[path]) if path else None
        if file is None:
            return _utc(datetime.datetime.fromtimestamp(0, datetime.UTC)), "nothing"
        return _utc(datetime.datetime.fromtimestamp(int(file.stat().st_mtime), datetime.UTC)), "file"

    # -- run, job --------------------------------------------------------------------------------------------------------

    def _run(self, node: Node, kind: str) -> dict[str, Any]:
        origin, version = self.facts.origins.of(node), self.facts.version(node)
        values: dict[str, dict[str, Any]] = {}
        for (file, key), value in node.params.items():
            values.setdefault(file, {})[key] = value
        stage = {
            "recipe": node.recipe, "stage": node.slug, "op": node.op, "params": values, "counts": self.facts.counts(node),
            "models": [{"as": s.label, "name": s.name, "revision": s.revision, "file": s.file, "content": s.content,
                        "adapter": s.adapter, "sampling": s.sampling} for s in self.facts.speakers(node)],
            "commit": origin.commit, "clean": origin.clean, "doubts": self.facts.doubts([node]),
        }  # fmt: skip
        facets = {
            "drp_stage": _own("DrpStageRunFacet", **stage),
            "drp_time": _own(
                "DrpTimeRunFacet", of=kind, means=WHEN[kind], duration="not recorded: START and COMPLETE have one time"
            ),
        }
        if version:
            facets["processing_engine"] = _facet("ProcessingEngineRunFacet", name="drp", version=version)
        return {"runId": run_id(node), "facets": facets}

    def _job(self, node: Node) -> dict[str, Any]:
        facets = {
            "jobType": _facet("JobTypeJobFacet", processingType="BATCH", integration="DRP", jobType="STAGE"),
            "documentation": _facet("DocumentationJobFacet", description=f"drp stage {node.recipe} {node.slug}: op {node.op}"),
        }
        recipe = f"recipes/{node.recipe}/recipe.yaml"
        commit = self.facts.origins.of(node).commit
        if commit:
            facets["sourceCodeLocation"] = _facet(
                "SourceCodeLocationJobFacet", type="git", url=f"git:{commit}:{recipe}", path=recipe, version=commit
            )
        if prompts := [path for path in self.facts.prompts(node) if not path.startswith("prompts/_")]:
            text = self._prompt(prompts[0], node.deps[prompts[0]], commit)
            if text is not None and len(prompts) == 1:
                facets["sourceCode"] = _facet("SourceCodeJobFacet", language="jinja2", sourceCode=text)
        return {"namespace": NAMESPACE, "name": node.address, "facets": facets}

    def _prompt(self, path: str, made: Made, commit: str | None) -> str | None:
        """The prompt that the lock names: as it lies in the snapshot, or in the commit; None where neither has it."""
        import hashlib

        from drp.lineage.snapshot import git

        for content in (self.snapshot.bytes(path), git(self.snapshot.root, "show", f"{commit}:./{path}") if commit else None):
            if content is not None and hashlib.md5(content).hexdigest() == made.md5:
                return content.decode("utf-8")
        return None

    # -- datasets --------------------------------------------------------------------------------------------------------

    def _inputs(self, node: Node) -> list[dict[str, Any]]:
        files, told = [self._dataset(path, made) for path, made in node.deps.items()], self.facts.public([*node.deps])
        return [*files, *(_source(s) for s in self.facts.sources([node]) if s.stage == node.address and s.name not in told)]

    def _outputs(self, node: Node) -> list[dict[str, Any]]:
        found = []
        for path, made in node.outs.items():
            each = self._dataset(path, made)
            if path == f"{node.base}.parquet":
                lineage = self._columns(node, path)
                each["facets"] |= {"columnLineage": lineage} if lineage else {}
            rows = self._rows(path, made)
            known = {"rowCount": rows, "size": made.size}
            each["outputFacets"] = {
                "outputStatistics": _facet(
                    "OutputStatisticsOutputDatasetFacet", **{k: v for k, v in known.items() if v is not None}
                )
            }
            found.append(each)
        return found

    def _dataset(self, path: str, made: Made) -> dict[str, Any]:
        kind = "MODEL" if made.md5.endswith(".dir") else "FILE"
        facets = {
            "version": _facet("DatasetVersionDatasetFacet", datasetVersion=f"md5:{made.md5}"),
            "datasetType": _facet("DatasetTypeDatasetFacet", datasetType=kind),
        }
        if schema := self._schema(path, made):
            facets["schema"] = _facet("SchemaDatasetFacet", fields=[_column(field) for field in schema])
        return {"namespace": NAMESPACE, "name": path, "facets": facets}

    def _schema(self, path: str, made: Made) -> Any:
        file = self.snapshot.find(path, made) if path.endswith(".parquet") else None
        return parquet.schema(file) if file else None

    def _rows(self, path: str, made: Made) -> int | None:
        file = self.snapshot.find(path, made) if path.endswith(".parquet") else None
        return parquet.rows(file) if file else None

    def _columns(self, node: Node, path: str) -> dict[str, Any] | None:
        """From which columns of which inputs each column came, and which decided what goes on; None where nobody can tell."""
        schema = self._schema(path, node.outs[path])
        feeds = [other for other in self.facts.feeds(node) if other.base]
        if not schema or not feeds:
            return None
        fields: dict[str, Any] = {}
        whole: list[dict[str, Any]] = []
        for other in feeds:
            source = f"{other.base}.parquet"
            known = self._schema(source, node.deps.get(source, other.outs[source]))
            if not known:
                continue
            for column, names in made_from(node, self.snapshot.project, schema.names, known.names).items():
                kind = "IDENTITY" if names == (column,) else "TRANSFORMATION"
                told = [_field(source, name, "DIRECT", kind, node.op) for name in names]
                fields.setdefault(column, {"inputFields": []})["inputFields"] += told
            whole += [_field(source, n, "INDIRECT", "FILTER", node.op) for n in CHOSEN.get(node.op, ()) if n in known.names]
        return _facet("ColumnLineageDatasetFacet", fields=fields, **({"dataset": whole} if whole else {})) if fields else None


def run_id(node: Node) -> str:
    """A run's id: the same lock entry, the same run."""
    lock = [node.address, node.lock.cmd, {p: m.md5 for p, m in node.deps.items()}, {p: m.md5 for p, m in node.outs.items()}]
    return str(uuid.uuid5(RUNS, of_value([*lock, [[file, key, value] for (file, key), value in node.params.items()]])))


def _source(source: Source) -> dict[str, Any]:
    scheme, mark, name = source.name.partition("://")
    facets = {"version": _facet("DatasetVersionDatasetFacet", datasetVersion=source.revision)} if source.revision else {}
    return {"namespace": scheme if mark else NAMESPACE, "name": name if mark else source.name, "facets": facets}


def _field(path: str, column: str, kind: str, subtype: str, op: str) -> dict[str, Any]:
    how = {"type": kind, "subtype": subtype, "description": f"drp op {op}", "masking": False}
    return {"namespace": NAMESPACE, "name": path, "field": column, "transformations": [how]}


def _column(field: Any) -> dict[str, Any]:
    """A column of a schema facet; what is nested in it as its fields."""
    import pyarrow as pa

    inner = field.type.value_type if pa.types.is_list(field.type) else field.type
    found: dict[str, Any] = {"name": field.name, "type": str(field.type)}
    if pa.types.is_struct(inner):
        found["type"] = "array<struct>" if pa.types.is_list(field.type) else "struct"
        found["fields"] = [_column(each) for each in inner]
    return found


def _facet(name: str, /, **told: Any) -> dict[str, Any]:
    version = VERSIONS[name]
    return {"_producer": PRODUCER, "_schemaURL": f"{SPEC}/facets/{version}/{name}.json#/$defs/{name}", **told}


def _own(name: str, /, **told: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": OWN.format(name), **told}


def _utc(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
