"""Hub cards: the README.md of a data set or of a model, its front matter and its story."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from drp.errors import DataError
from drp.exports import parquet, parts, pruning
from drp.exports.facts import Facts
from drp.exports.target import Target
from drp.lineage.graph import Node
from drp.pipeline.yamlfile import render

METRICS = {
    "accuracy": "Accuracy", "tokens": "Tokens per answer", "thought_tokens": "Tokens of thought per answer",
    "truncated": "Share of answers cut off",
}  # fmt: skip
"""What of a comparison goes into `model-index`."""
TRAINED = ("epochs", "rank", "alpha", "learning_rate", "batch_size", "batch_tokens", "max_length", "seed")
"""Settings of a training that the card tells."""


def export(facts: Facts, target: Target) -> str:
    """The card of what a target is: a model's where a stage (or its folder) is a model's, else a data set's."""
    if node := target.model:
        return _text(facts, *_Model(facts, node).card())
    nodes = [node for node in target.nodes if node.base]
    if not nodes:
        raise DataError(f"{target.name}: a report; cards are of data sets and models: name the stage that it reports on")
    return _text(facts, *_Data(facts, target, nodes).card())


def _text(facts: Facts, front: dict[str, Any], told: Iterable[str]) -> str:
    known = facts.public({key: value for key, value in front.items() if value not in (None, [], {})})
    parts_ = [facts.public(part.strip("\n")) for part in told if part.strip()]
    return f"---\n{render(known)}---\n\n" + "\n\n".join(parts_) + "\n"


class _Data:
    """The card of one data set, or of several that belong together."""

    def __init__(self, facts: Facts, target: Target, nodes: list[Node]) -> None:
        self.facts, self.nodes = facts, nodes
        self.name = target.recipe or " and ".join(node.address for node in nodes)
        self.line, self.names = facts.line(nodes), facts.names(nodes)
        self.spoken = any(facts.speakers(node) for node in self.line)

    def card(self) -> tuple[dict[str, Any], Iterator[str]]:
        """Front matter, and the parts of the text."""
        hubs = [f"extended|{source.hub}" for source in self.facts.sources(self.nodes) if source.hub]
        made = "machine-generated" if self.spoken else "found"
        short = len({node.slug for node in self.nodes}) == len(self.nodes)
        configs: list[dict[str, Any]] = [
            {
                "config_name": node.slug if short else node.address.replace("/", "-"),
                "data_files": [{"split": "train", "path": f"{node.base}.parquet"}],
            }
            for node in self.nodes
        ]
        front = {
            "pretty_name": self.name,
            "license": parts.licence(self.facts, self.names),
            "language": self.facts.languages.together(source.name for source in self.facts.sources(self.nodes)),
            "annotations_creators": [made],
            "language_creators": [made],
            "task_categories": ["text-generation"],
            "size_categories": [parts.size(sum(parts.count(self.facts, node) for node in self.nodes))],
            "source_datasets": list(dict.fromkeys(hubs)) or ["original"],
            "tags": ["drp", "reasoning", "chain-of-thought", *(["synthetic", "model-generated"] if self.spoken else [])],
            "configs": [{**configs[0], "default": True}, *configs[1:]],
            "generated-by": parts.generated(self.facts, self.line),
        }
        return front, self._told()

    def _told(self) -> Iterator[str]:
        facts = self.facts
        yield f"# {self.name}"
        yield parts.description(facts, self.nodes[0])
        changed = [doubt for node in self.nodes for doubt in facts.changed(f"{node.base}.parquet", node)]
        yield parts.state(facts, self.line, changed)
        yield from pruning.told(facts, self.nodes, self.line)
        yield from parts.contents(facts, self.nodes)
        yield parts.lineage(facts, self.line)
        yield parts.picture(facts, self.line)
        yield parts.sources(facts, self.line)
        yield parts.models(facts, self.line)
        yield parts.licences(facts, self.names)
        yield parts.again(facts, self.nodes, [f"{node.base}.parquet" for node in self.nodes])


class _Model:
    """The card of a model that a stage made."""

    def __init__(self, facts: Facts, node: Node) -> None:
        self.facts, self.node, self.folder = facts, node, node.model or ""
        self.line, self.names = facts.line([node]), facts.names([node])
        files = facts.snapshot.inside(self.folder, node.outs[self.folder])
        self.adapter = "adapter_config.json" in files or (not files and node.op == "sft")
        based = [speaker for speaker in facts.speakers(node) if speaker.label in ("model", "start")]
        self.base = based[0] if based else None

    def card(self) -> tuple[dict[str, Any], Iterator[str]]:
        """Front matter, and the parts of the text."""
        front = {
            "license": parts.licence(self.facts, self.names),
            "base_model": self.base.name if self.base else None,
            "base_model_relation": "adapter" if self.adapter and self.base and self.base.hub else None,
            "datasets": list(dict.fromkeys(source.hub for source in self.facts.sources([self.node]) if source.hub)),
            "library_name": "peft" if self.adapter else "transformers",
            "pipeline_tag": "text-generation",
            "tags": ["drp", "reasoning", *(["lora"] if self.adapter else []), "model-generated"],
            "generated-by": parts.generated(self.facts, self.line),
            "model-index": self._index(),
        }
        return front, self._told()

    def _told(self) -> Iterator[str]:
        facts, node = self.facts, self.node
        kind = f"A LoRA adapter for `{self.base.name}`" if self.adapter and self.base else "A model"
        if not self.adapter:
            kind += f" that goes on from `{self.base.name}`" if self.base else ", trained from scratch"
        yield f"# {node.address}"
        yield f"{kind}, made by drp (stage `{node.address}`, op `{node.op}`). {parts.description(facts, node)}"
        yield parts.state(facts, [*self.line, *(n for n in self._scores() if n not in self.line)])
        yield self._training()
        yield self._results()
        yield parts.lineage(facts, self.line)
        yield parts.picture(facts, self.line)
        yield parts.sources(facts, self.line)
        yield parts.models(facts, self.line)
        yield parts.licences(facts, self.names)
        yield parts.again(facts, [node], [self.folder])

    # -- what it was trained on ------------------------------------------------------------------------------------------

    def _training(self) -> str:
        """Records, tokens, tokens that reach the loss, by the ledger; the settings, by the lock."""
        said = [
            f"`{other.base}.parquet` (stage `{other.address}`, md5 `{parts.md5(other)}`)" for other in self.facts.feeds(self.node)
        ]
        if sums := self._ledger():
            said.append(
                f"{sums['records']:,} records, {sums['tokens']:,} tokens; {sums['trained']:,} of them reach the loss in a pass"
            )
            if "seen" in sums:
                said.append(f"over all epochs: records seen {sums['seen']:,} times, {sums['loss']:,} tokens in the loss")
        told = {key: value for key in TRAINED if (value := self.facts.option(self.node, key)) is not None}
        said.append(", ".join(f"{key} {value}" for key, value in told.items()) or "all settings are the op's own")
        return "\n".join(["## Trained on", "", *(f"- {line}" for line in said)])

    def _ledger(self) -> dict[str, int]:
        """The sums of the training ledger; {} where it is not here."""
        import pyarrow.compute as pc

        path = f"{self.node.base}.parquet"
        file = self.facts.snapshot.find(path, self.node.outs[path])
        names = set(parquet.schema(file).names) if file else set()
        if file is None or not {"n_tokens", "n_trained_tokens"} <= names:
            return {}
        rows = parquet.table(file)
        found = {"records": rows.num_rows, "tokens": pc.sum(rows["n_tokens"]), "trained": pc.sum(rows["n_trained_tokens"])}
        if "steps_seen" in names:
            times = pc.cast(pc.fill_null(pc.list_value_length(rows["steps_seen"]), 0), "int64")
            found |= {"seen": pc.sum(times), "loss": pc.sum(pc.multiply(times, rows["n_trained_tokens"]))}
        return {key: value if isinstance(value, int) else value.as_py() or 0 for key, value in found.items()}

    # -- how it does -----------------------------------------------------------------------------------------------------

    def _scores(self) -> list[Node]:
        """The stages that made records with this model and are reported on, and the reports."""
        return [node for pair in self._reports() for node in pair]

    def _reports(self) -> list[tuple[Node, Node]]:
        """Each evaluation of this model, with a report on it."""
        graph = self.facts.graph
        made = [node for node in graph.readers(self.folder) if node.base and self._labels(node)]
        return [(node, report) for node in made for report in graph.readers(f"{node.base}.parquet") if report.report]

    def _labels(self, node: Node) -> list[str]:
        """How an evaluation calls this model: by the hash of what it read."""
        manifest = self.facts.manifest(node)
        mark = (manifest.get("inputs") or {}).get(self.folder)
        key = "adapter" if self.adapter else "content"
        found = [label for label, identity in (manifest.get("models") or {}).items() if mark and identity.get(key) == mark]
        plain = [label for label in found if self.adapter or not manifest["models"][label].get("adapter")]
        return [label.partition(".")[2] or label for label in plain]

    def _index(self) -> list[dict[str, Any]]:
        """What the reports say of this model, as the hub's `model-index`."""
        results = []
        for node, report in self._reports():
            path = report.report or ""
            here = self.facts.snapshot.find(path, report.outs[path])
            for suite, told in (self.facts.snapshot.json(path, report.outs[path]) if here else {}).items():
                for label in self._labels(node):
                    if isinstance(told, dict) and isinstance(told.get(label), dict):
                        results.append(self._result(node, suite, told[label]))
        return [{"name": self.node.address, "results": results}] if results else []

    def _result(self, node: Node, suite: str, told: dict[str, Any]) -> dict[str, Any]:
        metrics = [
            {"type": key, "name": name, "value": told[key]}
            for key, name in METRICS.items()
            if isinstance(told.get(key), int | float)
        ]
        if (ratio := (told.get("vs_base") or {}).get("token_ratio")) is not None:
            metrics.append({"type": "token_ratio", "name": "Tokens per answer, as a share of the base's", "value": ratio})
        return {"task": {"type": "text-generation"}, "dataset": self._suite(node, suite), "metrics": metrics}

    def _suite(self, node: Node, suite: str) -> dict[str, Any]:
        """A suite as the hub wants it: the id of its data set where it has one, else the stage's address."""
        exam = self.facts.graph.labelled(node, suite)
        sources = self.facts.sources([exam]) if exam else []
        if len(sources) == 1 and sources[0].hub:
            taken = {
                "config": sources[0].taken.get("config"),
                "split": sources[0].taken.get("split"),
                "revision": sources[0].revision,
            }
            return {"type": sources[0].hub, "name": suite, **{key: value for key, value in taken.items() if value is not None}}
        return {"type": exam.address if exam else suite, "name": suite}

    def _results(self) -> str:
        """The tables of the reports, whole."""
        found = []
        for _, report in self._reports():
            path = (report.report or "").removesuffix(".json") + ".md"
            file = self.facts.snapshot.find(path, report.outs[path]) if path in report.outs else None
            if file:
                found.append(f"Stage `{report.address}`:\n\n{_read(path, file)}")
        return "\n\n".join(["## Results", *found]) if found else ""


def _read(path: str, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text ({error}); `git checkout {path}` brings back what was committed") from error
