"""Let the student answer every question: its trace, split into thought and reply."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal, TypedDict

from drp.fingerprint import seed_of
from drp.op import Completion, Dropped, Kept, Model, Outcome, Prompt, Record, Supplies, Talk, Work
from drp.text import split_thought, split_untagged

VERSION = 1
NEEDS = ("question",)
MAKES_RECORDS = True

MOST = 1000
"""Samples of a question; their ids have three digits, so that they sort."""


class Adds(TypedDict):
    """One sample. `thought` is null where it never closed, `reply` where none began; `tokens` counts generated ids."""

    sample: int
    seed: int
    response: str
    thought: str | None
    reply: str | None
    finish: str
    tokens: int
    completion: str


def generate(
    records: Iterable[Record],
    work: Work,
    *,
    model: Model,
    prompt: Annotated[Prompt, Supplies("question")],
    samples: int = 1,
    seed: int = 0,
    thought: Literal["tagged", "untagged"] = "tagged",
) -> Iterator[Outcome]:
    """`samples` responses to each question, as records `<id>/<sample>`, each from a random stream of its own.

    The streams depend on `seed`, the question's id and the sample's number alone. A truncated response is kept, with
    `finish: length`. `thought: untagged` is for students that write no `</think>`: their last paragraph (or sentence) is the
    reply, the rest the thought. Dropped: `no-completion`, `content-filter`.
    """

    def dialogue(record: Record) -> Talk:
        messages = prompt.render(question=record["question"])
        seeds = [seed_of(str(seed), record["id"], k) for k in range(samples)]
        completions = yield [model.request(messages, index=k, seed=s, whole=False) for k, s in enumerate(seeds)]
        return [_outcome(record, k, s, c, thought == "tagged") for k, (s, c) in enumerate(zip(seeds, completions, strict=True))]

    return work.ask(model, records, dialogue)


def check(options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """`samples` is from 1 to 1000."""
    samples = options["samples"]
    if isinstance(samples, int) and not 1 <= samples <= MOST:
        yield "samples", f"{samples} is not from 1 to {MOST}"


def _outcome(record: Record, sample: int, seed: int, completion: Completion, tagged: bool) -> Outcome:
    here = {**record, "id": f"{record['id']}/{sample:03d}", "sample": sample, "seed": seed}
    if completion.finish == "error":
        return Dropped(here, "no-completion", completion.error, completion.text)
    if completion.finish == "content_filter":
        return Dropped(here, "content-filter", completion.error, completion.text)
    return Kept({**here, **_split(completion, tagged)})


def _split(completion: Completion, tagged: bool) -> Record:
    """The response's columns. Cut off before any `</think>`, a text is taken for an unfinished thought: it has no reply."""
    parts = split_thought(completion.text) if tagged else split_untagged(completion.text)
    unfinished = parts.thought is None and completion.finish == "length"
    return {
        "response": completion.text, "thought": parts.thought, "reply": None if unfinished else parts.reply or None,
        "finish": completion.finish, "tokens": completion.completion_tokens, "completion": completion.key,
    }  # fmt: skip
