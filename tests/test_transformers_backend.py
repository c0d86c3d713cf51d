"""The transformers backend on a tiny random Llama with an R1-like chat template."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drp.backends import Ask, connect
from drp.errors import BackendError, ConfigError, MissingPackage
from drp.models import Completion, Message, Model, Request, Sampling
from drp.weights import load_model, load_tokenizer, resolve
from tests.tiny import model_at, tiny_student

QUESTIONS = ("12 + 7 =", "How many legs?", "5 - 3 + 2 + 9 - 1 + 12 =", "So?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively(tiny_student(tmp_path_factory.mktemp("student")))


def lively(folder: Path) -> Path:
    """Draw the weights anew, so large that the model babbles: an untrained one says the same token for ever."""
    import torch

    weights = load_model(model_at(folder))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in weights.named_parameters():
            if weight.dim() == 2:
                weight.normal_(0, 0.4 if "embed" in name else 0.7)
    weights.save_pretrained(folder)
    return folder


def requests(model: Model, questions: Iterable[str] = QUESTIONS) -> list[Request]:
    return [model.request((Message("user", question),)) for question in questions]


def answers(model: Model, asked: list[Request]) -> list[Completion]:
    asks = iter([Ask(ticket, request) for ticket, request in enumerate(asked)])
    found = {a.ticket: a.completion for burst in connect(model).complete(asks) for a in burst}
    return [found[ticket] for ticket in range(len(asked))]


def test_greedy_answers_are_those_of_transformers_own_generate(folder: Path) -> None:
    model = model_at(folder, temperature=0.0, max_tokens=24)
    tokenizer, weights = load_tokenizer(model), load_model(model)
    for question, found in zip(QUESTIONS, answers(model, requests(model)), strict=True):
        turns: Any = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        width = prompt["input_ids"].shape[1]
        ids = weights.generate(**prompt, max_new_tokens=24, do_sample=False)[0, width:].tolist()
        ended = tokenizer.eos_token_id in ids
        assert found.finish == ("stop" if ended else "length")
        assert found.text == tokenizer.decode(ids[:-1] if ended else ids)
        assert (found.prompt_tokens, found.completion_tokens) == (width, len(ids))


def test_a_seed_decides_an_answer_and_the_key_does_where_none_is_given(folder: Path) -> None:
    model = model_at(folder)
    prompt = (Message("user", "12 + 7 ="),)
    one, again, other = (model.request(prompt, seed=seed) for seed in (1, 1, 2))
    first, second = (model.request(prompt, index=index) for index in (0, 1))
    texts = [c.text for c in answers(model, [one, again, other, first, second, first])]
    assert texts[0] == texts[1] != texts[2]
    assert texts[3] == texts[5] != texts[4]


def test_a_request_more_and_a_smaller_batch_change_no_other_answer(folder: Path) -> None:
    model = model_at(folder)
    few = answers(model, requests(model))
    narrow = replace(model, endpoint=replace(model.endpoint, batch=2))
    more = answers(narrow, requests(model, [*QUESTIONS, "a longer one than all the others, to move the padding " * 3]))
    assert [c.text for c in more[:-1]] == [c.text for c in few]


def test_settings_left_open_are_the_generation_configs(folder: Path) -> None:
    model = model_at(folder)
    left_open = replace(model, sampling=Sampling(max_tokens=32))
    backend: Any = connect(left_open)
    own = backend.weights.generation_config
    own.do_sample, own.temperature, own.top_p = True, model.sampling.temperature, model.sampling.top_p
    prompt = (Message("user", "So?"),)
    asks = [Ask(seed, left_open.request(prompt, seed=seed)) for seed in range(4)]
    found = {a.ticket: a.completion.text for burst in backend.complete(iter(asks)) for a in burst}
    said = answers(model, [model.request(prompt, seed=seed) for seed in range(4)])
    assert [found[seed] for seed in range(4)] == [c.text for c in said]


def test_requests_sampled_in_different_ways_are_answered_together(folder: Path) -> None:
    model = model_at(folder, max_tokens=8)
    greedy = replace(model, sampling=Sampling(0.0, max_tokens=8))
    long = replace(model, sampling=Sampling(0.0, max_tokens=30))
    mixed = [m.request((Message("user", "So?"),), seed=3) for m in (model, greedy, long)]
    together = answers(model, mixed)
    assert [c.text for c in together] == [answers(model, [request])[0].text for request in mixed]
    assert together[2].text.startswith(together[1].text)


def test_a_prompt_that_fills_the_context_fails_alone_and_one_that_nearly_does_is_cut_at_its_end(tmp_path: Path) -> None:
    model = model_at(lively(tiny_student(tmp_path, context=64)), max_tokens=40, temperature=0.0)
    short, near, over = answers(model, requests(model, ["So?", "7 " * 20, "7 " * 200]))
    assert over.finish == "error"
    assert over.error == f"the prompt has {over.prompt_tokens} tokens, the model's context 64"
    assert short.finish == near.finish == "length"
    assert short.completion_tokens == 40
    assert near.prompt_tokens + near.completion_tokens == 64


def test_end_tokens_are_not_text_but_the_end_of_the_thought_is(folder: Path) -> None:
    model = model_at(folder, temperature=1.0, max_tokens=60)
    found = answers(model, [model.request((Message("user", "So?"),), seed=seed) for seed in range(64)])
    tokenizer = load_tokenizer(model)
    assert any("</think>" in c.text for c in found)
    assert any(c.finish == "stop" for c in found)
    assert not any(tokenizer.eos_token in c.text for c in found)


def test_none_among_the_asks_lets_the_caller_go_on(folder: Path) -> None:
    model = model_at(folder, max_tokens=4)
    given: list[int] = []

    def asks() -> Iterator[Ask | None]:
        for ticket in range(3):
            yield Ask(ticket, model.request((Message("user", f"round {ticket}"),)))
            while len(given) <= ticket:
                yield None

    for burst in connect(model).complete(asks()):
        given.extend(answer.ticket for answer in burst)
    assert given == [0, 1, 2]


def adapter_for(folder: Path, out: Path) -> Path:
    """A LoRA that changes much: every weight of its second half is drawn at random."""
    import peft
    import torch

    base = load_model(model_at(folder), train=True)
    wrapped = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "v_proj", "down_proj"]))
    torch.manual_seed(0)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    wrapped.save_pretrained(out)
    return out


def test_an_adapter_changes_what_is_said(folder: Path, tmp_path: Path) -> None:
    plain = model_at(folder, temperature=0.0)
    adapted = replace(plain, adapter=str(adapter_for(folder, tmp_path / "adapter")), adapter_hash="a")
    assert [c.text for c in answers(adapted, requests(adapted))] != [c.text for c in answers(plain, requests(plain))]


def test_an_adapter_that_is_missing_or_made_for_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no LoRA adapter there"):
        connect(replace(model_at(folder), adapter=str(tmp_path)))
    adapter = adapter_for(folder, tmp_path / "adapter")
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"r": 4', '"r": 8'), encoding="utf-8")
    with pytest.raises(BackendError, match="does not fit its base model"):
        connect(replace(model_at(folder), adapter=str(adapter)))


def test_a_model_that_is_not_there_is_refused_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"models/none: no such model folder.*dvc pull"):
        connect(model_at("models/none"))
    with pytest.raises(MissingPackage, match=r"pkg://no_such_package: .* pip install no-such-package"):
        connect(model_at("pkg://no_such_package"))
    with pytest.raises(BackendError, match="the tokenizer cannot be loaded"):
        connect(model_at(tmp_path))


def test_a_name_may_be_a_folder_of_an_installed_package() -> None:
    assert Path(resolve("pkg://drp/backends"), "transformers.py").is_file()
    with pytest.raises(ConfigError, match="has no folder 'weights'"):
        resolve("pkg://drp/weights")
    assert resolve("org/model") == "org/model"


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    folder = tiny_student(tmp_path)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    model = model_at(folder)
    with pytest.raises(BackendError, match="no chat template"):
        answers(model, requests(model))
