"""The chat protocol of OpenAI-compatible servers: requests to JSON bodies, response bodies to completions."""

import json
import re
from dataclasses import dataclass
from typing import Any

from drp.models import Completion, Finish, Request

TAGGED = """

Reply with one JSON object between <json> and </json>, and with nothing after it. It must follow this JSON Schema:
{schema}"""
"""What is added to the last message where a server does not take `response_format`."""

_FINISHES: dict[str, Finish] = {"stop": "stop", "eos": "stop", "length": "length", "content_filter": "content_filter"}


class Garbled(Exception):
    """A response that is not a chat completion; the text says in what way."""


@dataclass(slots=True)
class Manner:
    """What a server turned out to want; learned from its refusals, for the rest of a run."""

    tagged: bool = False
    """Structured output by an instruction, not by `response_format`."""
    limit: str = "max_tokens"
    """The name of the token limit: `max_tokens` or `max_completion_tokens`."""

    def learn(self, refusal: str, asked: dict[str, Any]) -> bool:
        """Whether the words of a refusal say how to ask otherwise than the body `asked` did."""
        if "response_format" in asked and _no_schema(refusal):
            self.tagged = True
            return True
        if "max_tokens" in asked and "max_completion_tokens" in refusal:
            self.limit = "max_completion_tokens"
            return True
        return False


def _no_schema(refusal: str) -> bool:
    """Whether the words of a refusal say that schemas are not taken; a word such as "grammar" alone may be the prompt's own."""
    said = refusal.lower()
    if re.search(r"response_format|json_schema", said):
        return True
    no = r"not supported|unsupported|not available|unavailable|not support|unknown|unrecognized|not enabled|invalid"
    return bool(re.search(r"structured|guided|grammar", said) and re.search(no, said))


def spent(status: Any, words: str) -> bool:
    """Whether an error says that there is no money left, which no other request would change."""
    said = re.search(r"insufficient_quota|billing_hard_limit_reached|credit balance", words, re.IGNORECASE)
    return status == 402 or (status in (400, 403, 429) and bool(said))


NO_MONEY = "the account has no money left: add credit, or raise its limit, and run again"
"""The cure where `spent`."""


def body(request: Request, manner: Manner) -> dict[str, Any]:
    """The JSON body that asks a server for `request`; settings that are None are left out."""
    sampling = request.model.sampling
    messages = [{"role": m.role, "content": m.content} for m in request.messages]
    asked = {
        "model": request.model.name,
        "messages": messages,
        manner.limit: sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": request.seed,
    }
    if request.schema is not None and manner.tagged:
        messages[-1]["content"] += TAGGED.format(schema=json.dumps(request.schema, ensure_ascii=False))
    elif request.schema is not None:
        asked["response_format"] = {"type": "json_schema", "json_schema": _named(request.schema)}
    return {key: value for key, value in asked.items() if value is not None}


def _named(schema: dict[str, Any]) -> dict[str, Any]:
    name = re.sub(r"[^A-Za-z0-9_-]", "_", str(schema.get("title", "reply")))[:64]
    return {"name": name, "schema": schema, "strict": True}


def read(text: str | bytes, request: Request) -> Completion:
    """The completion in a response's body; Garbled where it is HTML, not UTF-8, not JSON, or has no choices."""
    reply = _object(text)
    choice = _choice(reply)
    usage = _mapping(reply.get("usage"))
    spent = _count(usage.get("completion_tokens"))
    said, unsaid = _said(choice["message"], choice.get("finish_reason"))
    finish, error = _finish(choice.get("finish_reason"), spent >= request.model.sampling.max_tokens)
    if unsaid and finish == "stop":
        finish, error = ("content_filter", f"refused: {unsaid}") if unsaid != _NOTHING else ("error", unsaid)
    return Completion(
        text=_sound(said),
        finish=finish,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=spent,
        served=_sound(str(reply.get("model") or "")),
        error=_sound(error),
        cached_tokens=_cached(usage),
    )


def _cached(usage: dict[str, Any]) -> int:
    """Prompt tokens that the server had in its cache, as OpenAI and vLLM say it, or as DeepSeek does."""
    details = _mapping(usage.get("prompt_tokens_details"))
    return _count(details.get("cached_tokens")) or _count(usage.get("prompt_cache_hit_tokens"))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    """A number of tokens; 0 where the server says none, or nonsense."""
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e15 else 0


def _sound(text: str) -> str:
    """The text with half characters (lone surrogates, as of a reply cut inside an emoji) replaced: no file could hold them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _object(sent: str | bytes) -> dict[str, Any]:
    try:
        text = sent if isinstance(sent, str) else sent.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        raise Garbled(f"the server sent bytes that are not UTF-8 ({error.reason}, byte {error.start})") from error
    if text.lstrip().startswith("<"):
        raise Garbled(f"the server sent HTML, not JSON: {brief(text)}")
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Garbled(f"the server sent broken JSON ({error}): {brief(text)}") from error
    if not isinstance(reply, dict):
        raise Garbled(f"the server sent JSON that is not an object: {brief(text)}")
    return reply


def _choice(reply: dict[str, Any]) -> dict[str, Any]:
    if reply.get("error"):
        raise Garbled(f"the server sent an error as a reply: {brief(json.dumps(reply['error']))}")
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Garbled(f"the reply has no choices: {brief(json.dumps(reply))}")
    choice = choices[0]
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise Garbled(f"the reply's choice has no message: {brief(json.dumps(choice))}")
    return choice


_NOTHING = "the reply has no content"


def _said(message: dict[str, Any], finish: Any) -> tuple[str, str]:
    """The text of a message, its separately sent reasoning put before it in `<think>` tags; and why there is none."""
    content, reasoning = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
    content = content if isinstance(content, str) else None
    if reasoning and not content and finish == "length":
        return f"<think>\n{reasoning}", ""
    if reasoning:
        return f"<think>\n{str(reasoning).strip()}\n</think>\n\n{content or ''}", ""
    if content is not None:
        return content, ""
    return "", str(message.get("refusal") or _NOTHING)


def _finish(reason: Any, full: bool) -> tuple[Finish, str]:
    """The finish of a reply; a server that gives no reason is taken to have stopped, unless its reply is `full`."""
    if reason is None:
        return ("length" if full else "stop"), ""
    if isinstance(reason, str) and reason in _FINISHES:
        return _FINISHES[reason], ""
    return "error", f"finish_reason {reason!r} is not an answer"


def brief(text: str, most: int = 200) -> str:
    """A text on one line, cut to `most` characters, for a message."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
