"""W3C PROV as PROV-JSON: every stage an activity, every file and value an entity, drp and the models agents.

An entity is a file with its contents: its identifier ends in the md5 that the lock names, so a stage that read an older one
points at that. No time is told, because none is recorded.
"""

import hashlib
import json
import re
from typing import Any

from drp.errors import DataError, choices
from drp.exports.facts import Facts, Source, Speaker
from drp.exports.target import Target
from drp.fingerprint import SHORT, of_value
from drp.lineage.graph import Node
from drp.lineage.tables import Tables
from drp.pipeline.locked import Made
from drp.records import Record

SPACE = "https://drp.invalid/"
"""Where drp's names would lie, were they on the web; `.invalid` never is (RFC 2606)."""
PREFIXES = ("drp", "file", "stage", "param", "agent", "model", "source", "record", "completion")
Attributes = dict[str, Any]


def export(facts: Facts, target: Target, record: str | None = None) -> str:
    """The PROV-JSON of a recipe, or of all that a stage or a file was made from; `record` adds one record's own chain."""
    graph = facts.graph
    wanted = [n for n in graph.nodes.values() if n.recipe == target.recipe] if target.recipe else list(target.nodes)
    document = _Document(facts)
    nodes = graph.above(wanted)
    for node in nodes:
        document.stage(node)
    for doubt in facts.doubts(nodes):
        document.doubt(doubt)
    if record is not None:
        tables = Tables(graph)
        try:
            _Chain(document, tables, nodes).tell(record)
        finally:
            tables.close()
    return json.dumps(facts.public(document.plain()), indent=1, ensure_ascii=False) + "\n"


class _Document:
    """A PROV document that grows: elements by their identifiers, relations numbered in the order in which they came."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.elements: dict[str, dict[str, Attributes]] = {"entity": {}, "activity": {}, "agent": {}}
        self.relations: dict[str, dict[str, Attributes]] = {}
        self._seen: set[str] = set()

    def plain(self) -> dict[str, Any]:
        """As PROV-JSON has it."""
        prefixes = {name: f"{SPACE}{name}/" for name in PREFIXES}
        return {"prefix": prefixes, **{k: v for k, v in self.elements.items() if v}, **self.relations}

    def element(self, kind: str, name: str, **attributes: Any) -> str:
        """An entity, activity or agent, told once; its identifier."""
        told = {_attribute(key): _value(value) for key, value in attributes.items() if value is not None}
        self.elements[kind].setdefault(name, told)
        return name

    def relate(self, kind: str, **ends: Any) -> None:
        """A relation between elements, told once."""
        told = {f"prov:{key}": value for key, value in ends.items() if value is not None and not key.startswith("drp_")}
        told |= {_attribute(key): _value(value) for key, value in ends.items() if value is not None and key.startswith("drp_")}
        mark = f"{kind} {json.dumps(told, sort_keys=True)}"
        if mark not in self._seen:
            self._seen.add(mark)
            group = self.relations.setdefault(kind, {})
            group[f"_:{kind}{len(group) + 1}"] = told

    # -- what the graph knows --------------------------------------------------------------------------------------------

    def stage(self, node: Node) -> str:
        """A stage: what it used, made and derived, and who did it."""
        name, origin, counts = f"stage:{node.address}", self.facts.origins.of(node), self.facts.counts(node)
        self.element(
            "activity", name, prov_type=_named("drp:Stage"), prov_label=f"drp stage {node.recipe} {node.slug}", drp_op=node.op,
            drp_read=counts.get("read"), drp_kept=counts.get("kept"), drp_dropped=counts.get("dropped") or None,
            drp_commit=origin.commit, drp_committed=origin.date or None, drp_clean=origin.clean, drp_frozen=node.frozen or None,
        )  # fmt: skip
        self._who(node, name)
        read = [self.file(path, made) for path, made in node.deps.items()]
        for entity in read:
            self.relate("used", activity=name, entity=entity)
        for (file, key), value in node.params.items():
            self.relate("used", activity=name, entity=self.param(file, key, value))
        sources = [self.source(source) for source in self.facts.sources([node]) if source.stage == node.address]
        for entity in sources:
            self.relate("used", activity=name, entity=entity)
        for path, made in node.outs.items():
            entity = self.file(path, made)
            self.relate("wasGeneratedBy", entity=entity, activity=name)
            for other in [e for e in read if not e.startswith("file:prompts/")] + sources:
                self.relate("wasDerivedFrom", generatedEntity=entity, usedEntity=other, activity=name)
        for before in self.facts.graph.sources(node):
            self.relate("wasInformedBy", informed=name, informant=f"stage:{before.address}")
        return name

    def _who(self, node: Node, activity: str) -> None:
        plans = [self.file(path, node.deps[path]) for path in self.facts.prompts(node) if not path.startswith("prompts/_")]
        plan = plans[0] if len(plans) == 1 else None
        speakers = self.facts.speakers(node)
        agent = self.drp(self.facts.version(node))
        self.relate("wasAssociatedWith", activity=activity, agent=agent, plan=None if speakers else plan)
        for speaker in speakers:
            model = self.model(speaker)
            self.relate("wasAssociatedWith", activity=activity, agent=model, plan=plan, drp_as=speaker.label or None)
            self.relate("actedOnBehalfOf", delegate=model, responsible=agent, activity=activity)
        path = f"{node.base}.parquet"
        for speaker in speakers:
            self.relate("wasAttributedTo", entity=self.file(path, node.outs[path]), agent=self.model(speaker))

    def drp(self, version: str) -> str:
        """The agent drp, at the version that ran a stage."""
        name = f"agent:drp-{version}" if version else "agent:drp"
        return self.element("agent", name, prov_type=_named("prov:SoftwareAgent"), prov_label=f"drp {version}".strip())

    def model(self, speaker: Speaker) -> str:
        """The agent that a model is."""
        return self.element(
            "agent", f"model:{speaker.key}@{of_value(speaker.sampling)[:SHORT]}", prov_type=_named("prov:SoftwareAgent"),
            prov_label=speaker.name, drp_revision=speaker.revision, drp_file=speaker.file, drp_content=speaker.content,
            drp_adapter=speaker.adapter, drp_sampling=speaker.sampling or None,
            drp_licence=self.facts.licences.licence(speaker.name),
        )  # fmt: skip

    def file(self, path: str, made: Made) -> str:
        """The entity that a file is, as the lock names its contents."""
        shown = self.facts.public(path)
        kind = "Prompt" if path.startswith("prompts/") else "Folder" if made.md5.endswith(".dir") else "File"
        return self.element("entity", f"file:{_local(shown)}@{made.md5}", prov_type=_named(f"drp:{kind}"), prov_label=shown,
                            drp_path=shown, drp_md5=made.md5, drp_size=made.size)  # fmt: skip

    def param(self, file: str, key: str, value: Any) -> str:
        """The entity that a value is."""
        value = self.facts.public(value)
        mark = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:SHORT]
        return self.element("entity", f"param:{_local(file)}#{_local(key)}@{mark}", prov_type=_named("drp:Parameter"),
                            prov_label=f"{file}: {key}", prov_value=value, drp_file=file, drp_key=key)  # fmt: skip

    def source(self, source: Source) -> str:
        """The entity that a source outside is."""
        name = f"source:{_local(source.name)}@{_local(source.revision or 'unpinned')}"
        return self.element("entity", name, prov_type=_named("drp:Source"), prov_label=source.name, drp_revision=source.revision,
                            drp_url=source.url, drp_licence=self.facts.licences.licence(source.name))  # fmt: skip

    def doubt(self, words: str) -> None:
        """What is not as it should be, at the stage that it is about."""
        stage = self.elements["activity"][f"stage:{words.partition(':')[0]}"]
        stage["drp:doubt"] = [*stage.get("drp:doubt", []), words]


class _Chain:
    """One record's way, as far as the trails tell it: sentences, steps, the completions that decided."""

    def __init__(self, document: _Document, tables: Tables, nodes: list[Node]) -> None:
        snapshot = document.facts.snapshot
        here = [n for n in nodes if n.base and snapshot.find(f"{n.base}.parquet", n.outs[f"{n.base}.parquet"])]
        self.document, self.tables, self.nodes = document, tables, here

    def tell(self, record: str) -> None:
        """The record in every stage that has it, and what its trails say; DataError where no stage has it."""
        held: dict[str, Node] = {}
        for node in self.nodes:
            row = self.tables.row(node, record)
            if row is not None:
                held[node.address] = node
                self._held(node, record, row, self._before(node, record, held))
        if not held:
            began = self.tables.beginning(self.nodes[-1], record[:4], limit=5)
            near = f"{choices(record, began)}" if began else ""
            raise DataError(f"no record {record!r} in {', '.join(node.address for node in self.nodes[-3:])} or above{near}")

    def _before(self, node: Node, record: str, held: dict[str, Node]) -> str | None:
        feeds = self.document.facts.feeds(node)
        if same := [other for other in feeds if other.address in held]:
            return _record(same[0], record)
        for other in feeds:
            parent = record
            while parent := parent.rpartition("/")[0]:
                if (row := self.tables.row(other, parent)) is not None:
                    return self._held(other, parent, row, None)
        return None

    def _held(self, node: Node, record: str, row: Record, before: str | None) -> str:
        """The record as an entity of its file; the spans that its trail rows tell."""
        document = self.document
        path = f"{node.base}.parquet"
        entity = document.element("entity", _record(node, record), prov_type=_named("drp:Record"), prov_label=record)
        document.relate("hadMember", collection=document.file(path, node.outs[path]), entity=entity)
        document.relate("wasGeneratedBy", entity=entity, activity=f"stage:{node.address}")
        if before:
            document.relate("wasDerivedFrom", generatedEntity=entity, usedEntity=before, activity=f"stage:{node.address}")
        if isinstance(row.get("completion"), str) and node.op == "generate":
            document.relate("wasDerivedFrom", generatedEntity=entity, usedEntity=self._completion(node, row["completion"]))
        for number, each in enumerate(self.tables.trail(node, record)):
            self._row(node, record, row, number, each, entity)
        return entity

    def _row(self, node: Node, record: str, row: Record, number: int, told: Record, entity: str) -> None:
        document = self.document
        if told["src_start"] is None and told["out_start"] is None:
            return
        step = None
        if told["src_start"] is not None and told["step"] >= 0:
            cut = _record(self._cutter(node, record), record)
            step = document.element(
                "entity", f"{cut}#step-{told['step']}", prov_type=_named("drp:Step"),
                drp_start=told["src_start"], drp_end=told["src_end"], drp_skill=told["skill"],
                prov_value=_cut(row.get("thought"), told["src_start"], told["src_end"]),
            )  # fmt: skip
            document.relate("hadMember", collection=cut, entity=step)
        made = None
        if told["out_start"] is not None:
            made = document.element(
                "entity", f"{entity}#sentence-{told['out_start']}", prov_type=_named("drp:Sentence"),
                drp_start=told["out_start"], drp_end=told["out_end"], drp_action=told["action"],
                prov_value=_cut(row.get("pruned"), told["out_start"], told["out_end"]),
            )  # fmt: skip
            document.relate("hadMember", collection=entity, entity=made)
        elif step and told["action"]:
            made = document.element(
                "entity", f"{entity}#action-{told['step']}-{number}", prov_type=_named("drp:Action"),
                drp_action=told["action"], drp_reason=told["reason"],
            )  # fmt: skip
        if made and step:
            document.relate("wasDerivedFrom", generatedEntity=made, usedEntity=step, activity=f"stage:{node.address}")
        if told["completion"] and (made or step):
            completion = self._completion(node, told["completion"])
            document.relate(
                "wasDerivedFrom", generatedEntity=made or step, usedEntity=completion, activity=f"stage:{node.address}"
            )

    def _cutter(self, node: Node, record: str) -> Node:
        """The stage that cut a record's thought into the steps that a stage has: of variants, the one that it was made from."""
        line = [each for each in self.document.facts.line([node]) if each in self.nodes]
        return next((e for e in reversed(line) if e.op == "segment" and self.tables.row(e, record, "id")), node)

    def _completion(self, node: Node, key: str) -> str:
        document = self.document
        entity = document.element("entity", f"completion:{key}", prov_type=_named("drp:Completion"), drp_key=key)
        document.relate("wasGeneratedBy", entity=entity, activity=f"stage:{node.address}")
        if len(speakers := document.facts.speakers(node)) == 1:
            document.relate("wasAttributedTo", entity=entity, agent=document.model(speakers[0]))
        return entity


def _record(node: Node, record: str) -> str:
    return f"record:{node.address}/{_local(record)}"


def _cut(text: Any, start: int, end: int) -> str | None:
    return text[start:end] if isinstance(text, str) else None


def _named(name: str) -> dict[str, str]:
    return {"$": name, "type": "prov:QUALIFIED_NAME"}


def _attribute(key: str) -> str:
    space, _, name = key.partition("_")
    return f"{space}:{name}"


def _local(name: str) -> str:
    """A local name without blanks, or the schemes that would read as prefixes."""
    return re.sub(r"[^\w./@#=+-]", "_", name.replace("://", "/"))


def _value(value: Any) -> Any:
    """A literal of PROV-JSON, with its XSD type; a list or mapping as JSON."""
    if isinstance(value, dict) and set(value) == {"$", "type"}:
        return value
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return {"$": str(value).lower(), "type": "xsd:boolean"}
    if isinstance(value, int):
        return {"$": str(value), "type": "xsd:long"}
    if isinstance(value, float):
        return {"$": repr(value), "type": "xsd:double"}
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
