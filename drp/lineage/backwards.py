"""A record backwards: what saw it, what each stage did to it, and for a sentence of it, the steps that it comes from."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from drp.lineage.branch import Branch
from drp.lineage.chain import Chain, Link, parents
from drp.lineage.graph import Node
from drp.lineage.made import Making, listed, quoted
from drp.lineage.tables import Tables
from drp.records import Record
from drp.text import Span

ASKING = ("segment", "edit", "reassemble")
"""Ops whose completions stand in the trail."""


class Backwards:
    """Makes the branches of one record, from a stage that has it."""

    def __init__(self, making: Making, node: Node, record: str) -> None:
        self.making, self.node, self.record = making, node, record
        self.tables: Tables = making.lineage.tables
        self.graph = making.graph
        self.chain = Chain(self.tables, node, record)
        self._trails: dict[str, list[Record]] = {}

    @property
    def row(self) -> Record:
        """The record, with all that it has where the chain begins."""
        return self.chain.last

    def record_branch(self, below: Iterable[Branch] = (), after: Iterable[Branch] = ()) -> Branch:
        """The record: each stage that it went through, then who was trained on it."""
        branches = (*below, *self.stages(), *after, *self.trained())
        sizes = {name: len(self.row[name]) for name in ("thought", "pruned") if self.row.get(name)}
        told = " → ".join(str(size) for size in sizes.values())
        facts = {"id": self.record, "stage": self.node.address, **{f"{k}_characters": v for k, v in sizes.items()}}
        words = f"in {self.node.address}" + (f"; thought of {told} characters" if told else "")
        return Branch("record", self.record, words, facts, branches)

    # -- who saw it -----------------------------------------------------------------------------------------------------------

    def trained(self) -> Iterator[Branch]:
        """The models that were trained on these records: the optimiser steps that saw this one, and its tokens in the loss."""
        for reader in self.graph.readers(f"{self.node.base}.parquet"):
            if reader.model is None:
                continue
            entry = self.tables.row(reader, self.record)
            if entry is None:
                dropped = self.tables.row(reader, self.record, "reason", "detail", part=".dropped")
                told = f"not trained on it: {dropped['reason']} ({dropped['detail']})" if dropped else "has no entry of it"
                yield Branch("model", reader.model, told, {"stage": reader.address, "trained": False, "dropped": dropped})
                continue
            seen = entry.get("steps_seen")
            when = f"seen at optimiser step{'s' * (len(seen) > 1)} {', '.join(map(str, seen))}; " if seen else ""
            words = f"{when}{entry['n_trained_tokens']} of its {entry['n_tokens']} tokens reach the loss each time"
            yield Branch("model", reader.model, words, {"stage": reader.address, "trained": True, **entry})

    # -- what was done to it -----------------------------------------------------------------------------------------------------

    def stages(self) -> Iterator[Branch]:
        """Each stage of the chain, the last one first."""
        for link in self.chain.links:
            own = self.chain.own(link)
            words, facts = TOLD.get(link.node.op, _plain)(own, self.row)
            words = "; ".join(filter(None, (words, *self._lacks(link))))
            below = [*self._asked(link, own)]
            if made_from := parents(self.tables, link.node, link.record):
                words = f"from {', '.join(_named(parent, link) for parent in made_from)}" + (f"; {words}" if words else "")
                facts = {**facts, "parents": [f"{parent.node.address}:{parent.record}" for parent in made_from]}
                below += [Backwards(self.making, parent.node, parent.record).record_branch() for parent in made_from[1:]]
            yield self.making.stage(link.node, words, below, {"id": link.record, **facts})

    def _lacks(self, link: Link) -> Iterator[str]:
        """What is not told of a stage because its trail, or what it was made from, is not here."""
        node = link.node
        if node.op not in CITES_NONE - {"mix"} and not self.tables.present(node, ".trail"):
            says = "the completions that decided" if node.op in ASKING else "what it was made from"
            yield f"its trail is not here, which says {says}: {self.tables.brings('it', [node])}"
        if link == self.chain.links[-1] and (absent := self.tables.absent(self.graph.inputs(node))):
            names = ", ".join(other.address for other in absent)
            yield f"not looked in: the records of {names} are not here ({self.tables.brings('them', absent)})"

    def _asked(self, link: Link, own: Record) -> Iterator[Branch]:
        """The completions that decided, and the models that gave them."""
        keys = [own.get("completion")] if isinstance(own.get("completion"), str) else []
        if link.node.op not in CITES_NONE and not keys:
            keys = [row["completion"] for row in self.trail(link.node)]
        yield from self.making.completions(link.node, keys)
        if link.node.op in ("generate", "evaluate"):
            yield from self.making.models(link.node)

    def trail(self, node: Node) -> list[Record]:
        """The trail that a stage of the chain has of the record."""
        if node.address not in self._trails:
            name = next((link.record for link in self.chain.links if link.node == node), self.record)
            self._trails[node.address] = self.tables.trail(node, name, *CITED)
        return self._trails[node.address]

    def last(self, op: str) -> Node | None:
        """The last stage of the chain that ran an op."""
        return next((link.node for link in self.chain.links if link.node.op == op), None)

    # -- sentences and steps ----------------------------------------------------------------------------------------------------

    def sentences(self, spans: Sequence[Span]) -> Iterator[Branch]:
        """The sentences of the pruned thought that spans of it touch, with the steps that each comes from."""
        node = self.last("reassemble")
        for start, end in spans:
            if not any(touched(sentence, [(start, end)]) for sentence in self.row["sentences"]):
                yield _stray("pruned", start, end, "no sentence of the record covers it")
        for sentence in self.row["sentences"]:
            if node is None or not touched(sentence, spans):
                continue
            own = (sentence["start"], sentence["end"])
            rows = [row for row in self.trail(node) if (row["out_start"], row["out_end"]) == own]
            facts = {"start": own[0], "end": own[1], "made": sentence["kind"], "steps": sentence["steps"],
                     "text": self.row["pruned"][slice(*own)], "record": self.record}  # fmt: skip
            words = f"{quoted(facts['text'], 100)} {FROM[sentence['kind']]}{_numbers(sentence['steps'])}"
            steps = [self.step(number, node, rows) for number in sentence["steps"]]
            put = self.making.completions(node, [row["completion"] for row in rows])
            yield Branch("sentence", f"{own[0]}–{own[1]} of pruned", words, facts, (*steps, *put))

    def target(self, column: str, whole: str, spans: Sequence[Span]) -> Iterator[Branch]:
        """Where spans of a target, or of the reply in it, come from: the pruned thought, the reply, or no step."""
        pruned, reply = self.row.get("pruned") or "", self.row.get("target_reply") or ""
        first, last = whole.find(pruned), len(whole) - len(reply) if whole.endswith(reply) else len(whole)
        thought = (first, first + len(pruned)) if column == "target" and pruned and first >= 0 else (0, 0)
        answer = (last, len(whole)) if last >= thought[1] else (0, 0)
        inner = [(max(low, thought[0]), min(high, thought[1])) for low, high in spans]
        yield from self.sentences([(low - thought[0], high - thought[0]) for low, high in inner if low < high])
        if any(low < answer[1] and high > answer[0] for low, high in spans):
            own = (
                "the student's own reply"
                if reply in (self.row.get("reply") or "")
                else "the teacher's answer in the format of it"
            )
            yield Branch("reply", "", own, {"column": column})
        for low, high in spans:
            if not any(low < end and high > start for start, end in (thought, answer)):
                framed = "it stands between the thought and the reply" if thought[1] and answer[1] else ""
                whose = framed or "the target is not made of the record's pruned thought and its reply"
                yield _stray(column, low, high, whose)

    def step(self, number: int, reassembled: Node | None = None, rows: Sequence[Record] = ()) -> Branch:
        """A step of the thought: where it stands, its skill, what was done to it and why, and the completions that say so."""
        step, thought = self.row["steps"][number], self.row["thought"]
        text = thought[step["start"] : step["end"]]
        action = next((a for a in self.row.get("actions") or [] if a["step"] == number), None)
        facts = {"step": number, "skill": step["skill"], "start": step["start"], "end": step["end"], "text": text}
        words = f"[{step['skill']}] characters {step['start']}–{step['end']} of the thought, {quoted(text, 70)}"
        below: list[Branch] = []
        if action:
            below.append(self._action(action))
        if node := self.last("segment"):
            keys = [row["completion"] for row in self.trail(node) if row["step"] == number]
            below += [_aside(branch, f"cut by {node.address}: ") for branch in self.making.completions(node, keys)]
        source = next((row for row in rows if row["step"] == number and row["src_start"] is not None), None)
        if source and reassembled:
            facts["source"] = [source["src_start"], source["src_end"]]
        return Branch("step", str(number), words, facts, tuple(below))

    def _action(self, action: dict[str, Any]) -> Branch:
        node = self.last("edit")
        into = f" into step {action['into']}" if action["into"] is not None and action["into"] != action["step"] else ""
        new = f", as {quoted(action['text'], 80)}" if action["text"] else ""
        flags = f" [{', '.join(action['flags'])}]" if action["flags"] else ""
        words = f"{into.strip()}{new}{flags}; because: {action['reason']}".strip("; ,")
        keys = [row["completion"] for row in self.trail(node) if row["step"] == action["step"]] if node else []
        below = tuple(self.making.completions(node, keys)) if node else ()
        return Branch("action", action["action"], words, dict(action), below)


CITED = ("step", "src_start", "src_end", "out_start", "out_end", "completion")
"""What is read of a trail; the record has the rest."""
CITES_NONE = frozenset(("load", "generate", "narrate", "verify", "mix", "sft", "pretrain", "evaluate"))
"""Ops whose trails cite no completion."""
FROM = {"verbatim": "stands so in ", "rewritten": "rewritten from ", "merged": "merged from ", "connective": "put in between"}


def _stray(column: str, start: int, end: int, why: str) -> Branch:
    """A piece of text that no step led to."""
    facts = {"column": column, "start": start, "end": end, "step": None}
    return Branch("from no step", "", f"{start}–{end} of {column}: {why}", facts)


def _named(parent: Link, link: Link) -> str:
    return parent.node.address + (f":{parent.record}" if parent.record != link.record else "")


def touched(part: Record, spans: Sequence[Span]) -> bool:
    """Whether a part with `start` and `end` has any character of the spans."""
    return any(part["start"] < end and part["end"] > start for start, end in spans)


def _numbers(steps: Sequence[int]) -> str:
    return f"step{'s' * (len(steps) > 1)} {', '.join(map(str, steps))}" if steps else ""


def _aside(branch: Branch, words: str) -> Branch:
    return Branch(branch.kind, branch.name, words + branch.words, branch.facts, branch.below, branch.texts, aside=True)


Told = Callable[[Record, Record], tuple[str, dict[str, Any]]]
"""What a stage gave a record, and the whole record, to a line for people and facts."""


def _load(own: Record, row: Record) -> tuple[str, dict[str, Any]]:
    place = " ".join(filter(None, (own["source"], own["revision"] and f"({own['revision']})", own["split"])))
    return f"{place}, row {own['row']}: {quoted(own['question'])}, gold {own['answer']}", own


def _generate(own: Record, row: Record) -> tuple[str, dict[str, Any]]:
    facts = {name: own[name] for name in ("sample", "seed", "finish", "tokens", "completion")}
    return f"sample {own['sample']}, seed {own['seed']}: {own['tokens']} tokens, {own['finish']}", facts


def _verify(own: Record, row: Record) -> tuple[str, dict[str, Any]]:
    return f"{own['verdict']}: {own['prediction']}, gold {row.get('answer')}", own


def _segment(own: Record, row: Record) -> tuple[str, dict[str, Any]]:
    skills = Counter(step["skill"] for step in own["steps"])
    return f"{len(own['steps'])} steps: {listed(skills)}", {"steps": len(own["steps"]), "skills": dict(skills)}


def _edit(own: Record, row: Record) -> tuple[str, dict[str, Any]]:
    actions = Counter(action["action"] for action in own["actions"])
    return listed(actions), {"actions": dict(actions)}


def _reassemble(own: Record, row: Record) -> tuple[str, dict[str, Any]]:
    kinds = Counter(sentence["kind"] for sentence in own["sentences"])
    return f"{len(own['sentences'])} sentences: {listed(kinds)}", {"sentences": dict(kinds), "invented": own["invented"]}


def _plain(own: Record, row: Record) -> tuple[str, dict[str, Any]]:
    return ", ".join(f"{name} {quoted(str(value), 40)}" for name, value in own.items() if value is not None), own


TOLD: dict[str, Told] = {
    "load": _load, "generate": _generate, "verify": _verify, "segment": _segment, "edit": _edit, "reassemble": _reassemble,
    "mix": lambda own, row: ("", {}),
}  # fmt: skip
