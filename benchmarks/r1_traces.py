"""Measures the rules teacher on real R1 traces: what it covers, does, removes and breaks, as one Markdown table.

    python benchmarks/r1_traces.py [traces.jsonl] [--show ID …]

A line of the file holds `id` and `response` (with `<think>…</think>`), and may hold `question`. `--show` prints a trace's
steps with their actions instead of the table.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from drp.asking import Asking
from drp.backends.rules import connect
from drp.models import Endpoint, Model, Sampling
from drp.op import Dialogue, Dropped, Kept, Outcome, Record
from drp.ops.edit import edit
from drp.ops.reassemble import reassemble
from drp.ops.segment import segment
from drp.prompts import Prompt
from drp.rules.equations import bare, equations, inputs
from drp.teaching import states_answer
from drp.text import final_answer, sentences, split_thought

PROJECT = Path(__file__).resolve().parents[1]
TRACES = PROJECT.parent / "shared/data/r1_traces/r1_distill_qwen_1_5b.jsonl"
TEACHER = Model("teacher", "rules", Sampling(), Endpoint("rules"))
Op = Callable[[list[Record]], Iterator[Outcome]]


class Work:
    """A stage's work, as far as the teacher's ops need it: asks the rules teacher."""

    out = resume = Path("unused")

    def ask(self, model: Model, records: Iterable[Record], dialogue: Dialogue) -> Iterator[Outcome]:
        """Hold the dialogue over every record."""
        return Asking(connect(model), window=64).run(records, dialogue)

    def say(self, text: str) -> None:
        """Progress, for the person who watches."""
        print(text, file=sys.stderr)


def main() -> None:
    """Run the three ops over the traces; print the table, or the traces that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", type=Path, nargs="?", default=TRACES)
    parser.add_argument("--show", nargs="+", default=[])
    options = parser.parse_args()
    records = read(options.traces)
    started = time.perf_counter()
    kept, dropped = prune(records)
    seconds = time.perf_counter() - started
    if options.show:
        for record in kept:
            if record["id"] in options.show:
                show(record)
        return
    print("| measure | value |\n|---|---|")
    for name, value in rows(records, kept, dropped, seconds):
        print(f"| {name} | {value} |")


def read(path: Path) -> list[Record]:
    """The traces as records, as generate leaves them."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    cuts = [(line, split_thought(line["response"])) for line in lines]
    return [
        {"id": f"{line['id']:03}", "question": line.get("question", ""), "thought": cut.thought, "reply": cut.reply}
        for line, cut in cuts
    ]


def prune(records: list[Record]) -> tuple[list[Record], list[Dropped]]:
    """The records through segment, edit and reassemble, and those dropped on the way."""
    work = Work()
    prompts = {name: Prompt(PROJECT / "prompts", name) for name in ("segment", "edit", "reassemble")}
    ops: list[Op] = [
        lambda found: segment(found, work, model=TEACHER, prompt=prompts["segment"]),
        lambda found: edit(found, work, model=TEACHER, prompt=prompts["edit"]),
        lambda found: reassemble(found, work, model=TEACHER, prompt=prompts["reassemble"]),
    ]
    dropped: list[Dropped] = []
    for op in ops:
        outcomes = list(op(records))
        dropped += [outcome for outcome in outcomes if isinstance(outcome, Dropped)]
        records = [outcome.record for outcome in outcomes if isinstance(outcome, Kept)]
    return records, dropped


def rows(records: list[Record], kept: list[Record], dropped: list[Dropped], seconds: float) -> Iterator[tuple[str, object]]:
    """The table, row by row."""
    reasons = Counter(outcome.reason for outcome in dropped)
    yield "traces", len(records)
    yield "kept / dropped", f"{len(kept)} / {len(dropped)}" + "".join(f" ({reason}: {n})" for reason, n in reasons.items())
    cut = [outcome.record for outcome in dropped if "steps" in outcome.record] + kept
    yield "traces whose steps cover the thought exactly", f"{sum(map(covered, cut))} of {len(cut)}"
    counts = [len(record["steps"]) for record in cut]
    yield "steps per trace: median (least to most)", f"{statistics.median(counts):.0f} ({min(counts)} to {max(counts)})"
    yield "sentences per step", f"{sum(len(sentences(r['thought'])) for r in cut) / sum(counts):.2f}"
    yield from _actions(kept)
    yield from _removed(kept)
    yield from _failures(kept)
    yield "seconds", f"{seconds:.1f}"


def covered(record: Record) -> bool:
    """Whether the steps, put together, are the thought."""
    thought: str = record["thought"]
    return "".join(thought[step["start"] : step["end"]] for step in record["steps"]) == thought


def _actions(kept: list[Record]) -> Iterator[tuple[str, object]]:
    actions = Counter(action["action"] for record in kept for action in record["actions"])
    for name in ("keep", "delete", "rewrite", "merge"):
        yield f"steps with {name}", f"{100 * actions[name] / actions.total():.1f} %"
    kinds = Counter(sentence["kind"] for record in kept for sentence in record["sentences"])
    for name in ("verbatim", "rewritten", "merged", "connective"):
        yield f"sentences {name}", f"{100 * kinds[name] / kinds.total():.1f} %"


def _removed(kept: list[Record]) -> Iterator[tuple[str, object]]:
    before, after = (sum(len(record[key]) for record in kept) for key in ("thought", "pruned"))
    yield "characters removed", f"{100 * (1 - after / before):.1f} %"
    before, after = (sum(record["style"][key] for record in kept) for key in ("words_before", "words"))
    yield "words removed", f"{100 * (1 - after / before):.1f} %"
    shares = sorted(1 - record["style"]["words"] / record["style"]["words_before"] for record in kept)
    yield (
        "words removed per trace: median (least to most)",
        " ".join((f"{100 * statistics.median(shares):.1f} %", f"({100 * shares[0]:.1f} to {100 * shares[-1]:.1f})")),
    )
    for key, name in (("markers_before", "before"), ("markers", "after")):
        yield f"discourse markers per 100 words {name}: median", f"{statistics.median(r['style'][key] for r in kept):.1f}"


def _failures(kept: list[Record]) -> Iterator[tuple[str, object]]:
    checks: dict[str, Callable[[Record], bool]] = {
        "every equation deleted": lost_equations,
        "the answer was in the thought, and is lost": lost_answer,
        "a number that was never there": lambda record: bool(record["invented"]),
        "a number is used whose introduction was deleted": lambda record: bool(orphans(record)),
    }
    for name, check in checks.items():
        found = [record["id"] for record in kept if check(record)]
        yield f"traces where {name}", f"{len(found)}" + (f" ({', '.join(found)})" if found else "")


def lost_equations(record: Record) -> bool:
    """Whether the thought had equations, and the pruned one has none."""
    return bool(equations(record["thought"])) and not equations(record["pruned"])


def lost_answer(record: Record) -> bool:
    """Whether the thought gave the reply's answer, and the pruned one does not."""
    answer = final_answer(record["reply"])
    return states_answer(record["thought"], answer) and not states_answer(record["pruned"], answer)


def orphans(record: Record) -> set[str]:
    """Numbers that a sentence of the pruned thought takes from elsewhere, that stood earlier in the thought, and no more do."""
    return _unintroduced(record["pruned"], record["question"]) - _unintroduced(record["thought"], record["question"])


def _unintroduced(text: str, question: str) -> set[str]:
    known = bare(question)
    missing: set[str] = set()
    for start, end in sentences(text):
        sentence = text[start:end]
        if stated := equations(sentence):
            missing |= inputs(sentence, stated) - known
        known |= bare(sentence)
    return missing


def show(record: Record) -> None:
    """A trace's steps with their actions, and the reply."""
    print(f"=== {record['id']}")
    for step, action in zip(record["steps"], record["actions"], strict=True):
        print(f"{action['action']:8}{step['skill']:13}| {record['thought'][step['start'] : step['end']]!r}")
        if action["action"] != "keep":
            print(f"{'':21}| {action['reason']}" + (f" -> {action['text']!r}" if action["text"] else ""))
    print(f"--- {record['target_reply'][-300:]}")


if __name__ == "__main__":
    main()
