"""Train a small Llama from scratch, tokenizer and all, on narrated traces."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, TypedDict

from drp.errors import ConfigError, DataError
from drp.op import Dropped, Kept, Model, Outcome, Prompt, Record, Supplies, Work
from drp.pretraining import Example, build_model, build_tokenizer, encode, example, save, train
from drp.weights import load_model, load_tokenizer

VERSION = 1
NEEDS = ("question", "thought", "reply", "finished")
MAKES_MODEL = True
REPLACES = True


class Adds(TypedDict):
    """The ledger: `n_tokens` counts prompt and response, `n_trained_tokens` the response, once an epoch."""

    id: str
    n_tokens: int
    n_trained_tokens: int


def pretrain(
    records: Iterable[Record],
    work: Work,
    *,
    prompt: Annotated[Prompt, Supplies("question")],
    start: Model | None = None,
    vocabulary: int = 1024,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    inner: int = 384,
    context: int = 2048,
    epochs: int = 1,
    batch_tokens: int = 4096,
    learning_rate: float = 2e-3,
    final_rate: float = 0.02,
    warmup: int = 100,
    weight_decay: float = 0.05,
    seed: int = 0,
) -> Iterator[Outcome]:
    """Learn to continue the prompt by each record's `thought` and `reply`; an unfinished thought has no end to learn.

    The model (Llama: `layers` of `width`, tied embeddings; R1's special tokens and chat template) is a folder that
    transformers, PEFT and vLLM load; with `start`, that model and its tokenizer learn on. `batch_tokens` counts padding;
    the rate falls by a cosine to `final_rate` of `learning_rate`. A run that was killed goes on from its last checkpoint.
    Dropped: `too-long` (for `context`).
    """
    kept = list(records)
    if not kept:
        raise DataError("no record to learn from")
    examples = [_example(record, prompt) for record in kept]
    if start is None:
        tokenizer = build_tokenizer([f"{e.question}\n{e.response}" for e in examples], vocabulary=vocabulary)
        model = build_model(tokenizer, width=width, layers=layers, heads=heads, inner=inner, context=context, seed=seed)
    else:
        tokenizer, model = load_tokenizer(start), load_model(start, train=True)
    encoded = encode(tokenizer, examples)
    fitting = [sequence for sequence in encoded if len(sequence[0]) <= context]
    work.say(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens, {len(fitting)} of {len(kept)} records")
    train(
        model,
        fitting,
        pad=tokenizer.pad_token_id,
        epochs=epochs,
        batch_tokens=batch_tokens,
        learning_rate=learning_rate,
        final_rate=final_rate,
        warmup=warmup,
        weight_decay=weight_decay,
        seed=seed,
        checkpoint=work.resume,
        report=lambda progress: work.say(str(progress)),
    )
    save(model, tokenizer, work.out)
    for record, (ids, prompt_length) in zip(kept, encoded, strict=True):
        if len(ids) > context:
            yield Dropped(record, "too-long", f"{len(ids)} tokens with the prompt, context is {context}")
        else:
            yield Kept({"id": record["id"], "n_tokens": len(ids), "n_trained_tokens": len(ids) - prompt_length})


def check(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The rules between options."""
    width, heads = options.get("width"), options.get("heads")
    if isinstance(width, int) and isinstance(heads, int) and (heads < 1 or width % (2 * heads)):
        yield "heads", f"width ({width}) must be an even multiple of heads"
    if isinstance(options.get("epochs"), int) and options["epochs"] < 1:
        yield "epochs", "must be at least 1"


def _example(record: Record, prompt: Prompt) -> Example:
    messages = prompt.render(question=record["question"])
    if [message.role for message in messages] != ["user"]:
        raise ConfigError(f"{prompt.path}: a student that learns from scratch learns from one user message, and no other")
    return example(messages[0].content, record["thought"], record["reply"] or "", finished=record["finished"])
