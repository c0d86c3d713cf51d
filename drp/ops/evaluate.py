"""Ask models the questions of test suites, zero-shot, several runs each, and judge every answer."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, TypedDict

from drp.fingerprint import seed_of
from drp.models import Completion, Request
from drp.op import Dialogue, Dropped, Inputs, Kept, Model, Outcome, Prompt, Record, Supplies, Talk, Work
from drp.text import END_THINK, split_thought
from drp.verifiers import Case, Verdict, problem_with
from drp.verifiers.pool import judged
from drp.weights import load_tokenizer

VERSION = 1
NEEDS = ("question", "answer")
REPLACES = True

CutoffMode = Literal["fail", "clip", "drop"]

TAIL, PHRASE, FRESH = 200, 8, 0.5
"""A text loops where, of all runs of 8 words in its last 200 words, less than half are different ones.

60 traces of R1-Distill-Qwen-1.5B that came to their end have at least 0.7; exact repetition of a passage of up to a
hundred words has less than 0.5 by arithmetic. A text of fewer than 200 words never counts as looping.
"""


class Adds(TypedDict):
    """One row for each suite, model, item and run: the raw generation, and what was found in it.

    `generated` counts all generated ids; `tokens` those up to the cutoff, and `thought_tokens` the share of it before
    `</think>` (null where no tokenizer is at hand). `truncated`: the answer was not over by the cutoff. `counted`: false
    for a truncated row under `cutoff_mode: drop`, which enters no score.
    """

    id: str
    suite: str
    model: str
    item: str
    run: int
    question: str
    answer: str
    response: str
    reply: str
    finish: str
    generated: int
    tokens: int
    thought_tokens: int | None
    truncated: bool
    looped: bool
    counted: bool
    prediction: str | None
    correct: bool
    verdict: str
    cutoff: int
    cutoff_mode: str
    completion: str


def evaluate(
    work: Work,
    *,
    models: dict[str, Model],
    on: Inputs,
    prompt: Annotated[Prompt, Supplies("question")],
    cutoff: int,
    cutoff_mode: CutoffMode = "fail",
    max_tokens: int | None = None,
    runs: int = 1,
    temperature: float | None = None,
    top_p: float | None = None,
    verifier: str = "math",
    timeout: float = 5.0,
    seed: int = 0,
) -> Iterator[Outcome]:
    """Every question of every suite in `on`, `runs` times to every model; run k of an item has one seed for all models.

    `max_tokens` limits generation (by default it is the cutoff); `temperature` and `top_p` replace the models' own.
    What becomes of an answer that is not over after `cutoff` tokens: `fail`: it is wrong; `clip`: the generated text is
    judged as it stands, its thought too if that was never closed; `drop`: the row stays, but counts in no score. In every
    mode it costs `cutoff` tokens. Answers are judged by `verifier`, at most `timeout` seconds each.
    Dropped: `no-completion` (the request failed).
    """
    for label, model in sorted(models.items()):
        asked = _sampled(model, max_tokens or cutoff, temperature, top_p)
        questions = _questions(label, on, runs)
        outcomes = work.ask(asked, questions, _dialogue(asked, prompt, seed, cutoff, cutoff_mode, _thought_counter(asked)))
        yield from _judge(outcomes, verifier, timeout)


def check(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The rules between options."""
    cutoff, limit = options.get("cutoff"), options.get("max_tokens")
    if isinstance(cutoff, int) and isinstance(limit, int):
        if limit < cutoff:
            yield "max_tokens", f"{limit} ends every answer before the cutoff ({cutoff})"
        if limit > cutoff and options.get("cutoff_mode") == "clip":
            yield "cutoff_mode", "clip judges the text as it was generated, so max_tokens must be the cutoff (leave it out)"
    for key in ("cutoff", "runs"):
        if isinstance(options.get(key), int) and options[key] < 1:
            yield key, "must be at least 1"
    if isinstance(options.get("verifier"), str) and (problem := problem_with(options["verifier"])):
        yield "verifier", problem


def looped(text: str) -> bool:
    """Whether a text's tail says the same again and again (see `TAIL`)."""
    words = text.split()[-TAIL:]
    phrases = [tuple(words[i : i + PHRASE]) for i in range(len(words) - PHRASE + 1)]
    return len(words) == TAIL and len(set(phrases)) < FRESH * len(phrases)


def _sampled(model: Model, limit: int, temperature: float | None, top_p: float | None) -> Model:
    own = model.sampling
    chosen = replace(
        own,
        max_tokens=limit,
        temperature=own.temperature if temperature is None else temperature,
        top_p=own.top_p if top_p is None else top_p,
    )
    return replace(model, sampling=chosen)


def _questions(label: str, on: Inputs, runs: int) -> Iterator[Record]:
    """A row to be filled for every suite, item and run."""
    for suite, items in on.items():
        for item in items:
            for run in range(runs):
                yield {
                    "id": f"{suite}/{label}/{item['id']}/{run:03d}",
                    "suite": suite, "model": label, "item": item["id"], "run": run,
                    "question": item["question"], "answer": item["answer"],
                }  # fmt: skip


def _dialogue(
    model: Model, prompt: Prompt, seed: int, cutoff: int, mode: CutoffMode, thought_tokens: "_ThoughtCounter"
) -> Dialogue:
    """One question, one answer; the outcome has everything but the verdict."""

    def ask(record: Record) -> Talk:
        request: Request = model.request(
            prompt.render(question=record["question"]),
            index=record["run"],
            seed=seed_of(seed, record["item"], record["run"]),
            whole=False,
        )
        (completion,) = yield [request]
        if completion.finish == "error":
            return Dropped(record, "no-completion", completion.error)
        return Kept({**record, **_measured(completion, cutoff, mode, thought_tokens)})

    return ask


_ThoughtCounter = Callable[[Completion, bool], int | None]
"""(completion, truncated) to the tokens of its thought."""


def _measured(completion: Completion, cutoff: int, mode: CutoffMode, thought_tokens: _ThoughtCounter) -> Record:
    truncated = completion.finish == "length" or completion.completion_tokens > cutoff
    thought = thought_tokens(completion, truncated)
    return {
        "response": completion.text,
        "reply": split_thought(completion.text).reply,
        "finish": completion.finish,
        "generated": completion.completion_tokens,
        "tokens": min(completion.completion_tokens, cutoff),
        "thought_tokens": None if thought is None else min(thought, cutoff),
        "truncated": truncated,
        "looped": looped(completion.text),
        "counted": not (truncated and mode == "drop"),
        "cutoff": cutoff,
        "cutoff_mode": mode,
        "completion": completion.key,
    }


def _thought_counter(model: Model) -> _ThoughtCounter:
    """Counts the tokens of thoughts: those generated, less those of what follows `</think>`, which are tokenized again.

    A thought that was never closed is the whole of a truncated answer, and none of a finished one. A model behind a
    server brings no tokenizer: null.
    """
    if model.endpoint.backend not in ("transformers", "vllm"):
        return lambda *_: None
    tokenizer = load_tokenizer(model)

    def count(completion: Completion, truncated: bool) -> int:
        _, closed, after = completion.text.rpartition(END_THINK)
        if not closed:
            return completion.completion_tokens if truncated else 0
        end = completion.finish == "stop"  # the end token was generated, but is not in the text
        rest = len(tokenizer.encode(closed + after, add_special_tokens=False)) + end
        return max(0, completion.completion_tokens - rest)

    return count


def _judge(outcomes: Iterable[Outcome], verifier: str, timeout: float) -> Iterator[Outcome]:
    """The outcomes with a verdict on each answer, in order."""
    pairs = ((outcome, _case(outcome)) for outcome in outcomes)
    for outcome, verdict in judged(pairs, verifier=verifier, timeout=timeout):
        yield outcome if isinstance(outcome, Dropped) else Kept({**outcome.record, **_told(verdict)})


def _case(outcome: Outcome) -> Case:
    """What of an answer is judged: its reply; nothing of a truncated one, unless the cutoff clips."""
    if isinstance(outcome, Dropped):
        return Case(None, "")
    row = outcome.record
    if not row["truncated"]:
        return Case(row["reply"], row["answer"])
    judged_text = (row["reply"] or row["response"]) if row["cutoff_mode"] == "clip" else None
    return Case(judged_text, row["answer"], truncated=True)


def _told(verdict: Verdict) -> Record:
    return {"prediction": verdict.prediction, "correct": verdict.correct, "verdict": verdict.verdict}
