"""What a request asks of a language model. Pure.

Known are OpenAI's chat completions, completions, responses and embeddings, Anthropic's messages, and what speaks like
them, as almost every provider and local server does.
"""

from __future__ import annotations

import re
from itertools import islice
from urllib.parse import unquote

import msgspec

from .estimate import estimated_tokens
from .members import MAX_MODEL_CHARACTERS as MAX_MODEL_CHARACTERS
from .members import NOTHING, decoded, name, number, printable

# A thousand times what the largest model takes. A greater number is a mistake, or meant to overflow something.
MAX_TOKENS = 1_000_000_000
# What a provider writes around the whole. Around each message it writes 3 to 7 tokens, for which our count has those
# of {"role":"user","content":""}.
REQUEST_TOKENS = 4

_OBJECT = re.compile(rb"[ \t\r\n]*\{")
_AZURE = "/openai/deployments/"
# Of these the model's name suffices; elsewhere, other services have models, too, and something must be there to read.
_ASKING = ("/chat/completions", "/completions", "/responses", "/messages", "/embeddings")
_COUNTING = ("/count_tokens", "/responses/input_tokens")  # these answer how many there would be, and use none
_WITHOUT_COMPLETION = ("/embeddings", "/moderations", "/rerank", "/audio/speech", "/images/generations")
_NULL = b"null"
# OpenAI's limit for one request.
MAX_PROMPTS = 2048
_FIRST_PROMPT = re.compile(rb'\[[ \t\r\n]*(["\[])')
_BETWEEN_TEXTS = re.compile(rb'"[ \t\r\n]*,[ \t\r\n]*"')
_BETWEEN_LISTS = re.compile(rb"\][ \t\r\n]*,[ \t\r\n]*\[")


class Asked(msgspec.Struct, frozen=True):
    """One request to a language model.

    Attributes:
        model: as asked for, printable, at most MAX_MODEL_CHARACTERS, never "".
        prompt_tokens: an estimate, rather too many than too few.
        max_completion_tokens: what the request allows in all its choices, at most MAX_TOKENS; None: it does not say.
    """

    model: str
    prompt_tokens: int
    max_completion_tokens: int | None


class _Request(msgspec.Struct, frozen=True, gc=False):
    """Every member as it stands in the text: one of a wrong type is as good as none, and no tree is built."""

    model: msgspec.Raw = NOTHING
    messages: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING
    system: msgspec.Raw = NOTHING
    instructions: msgspec.Raw = NOTHING
    tools: msgspec.Raw = NOTHING
    functions: msgspec.Raw = NOTHING
    max_completion_tokens: msgspec.Raw = NOTHING
    max_output_tokens: msgspec.Raw = NOTHING
    max_tokens: msgspec.Raw = NOTHING
    n: msgspec.Raw = NOTHING
    best_of: msgspec.Raw = NOTHING


_REQUEST = msgspec.json.Decoder(_Request)


def read_asked(method: str, path: str, body: bytes) -> Asked | None:
    """What the request asks for; None when it is none to a language model.

    Args:
        path: of the URL, with or without its query.
    """
    if method != "POST" or not _OBJECT.match(body):
        return None
    deployment = _deployment(path) if _AZURE in path else ""
    if not deployment and b'"model"' not in body:
        return None
    path = path.partition("?")[0].rstrip("/")
    if path.endswith(_COUNTING):
        return None
    request = decoded(_REQUEST, body)
    if request is None:
        return None
    model = deployment or name(request.model)
    texts = (request.messages, request.prompt, request.input)
    if not model or not (deployment or path.endswith(_ASKING) or any(text is not NOTHING for text in texts)):
        return None
    around = (request.system, request.instructions, request.tools, request.functions)
    tokens = sum([estimated_tokens(_text(member)) for member in (*texts, *around) if member is not NOTHING])
    allowed = 0 if path.endswith(_WITHOUT_COMPLETION) else _max_completion_tokens(request)
    return Asked(model, tokens + REQUEST_TOKENS, allowed)


def _deployment(path: str) -> str:
    """Azure's own name for a model that is set up there; a "model" in the body has no effect."""
    return printable(unquote(path.partition(_AZURE)[2].partition("/")[0].partition("?")[0]))


def _text(member: msgspec.Raw) -> bytes:
    text = bytes(member)
    return b"" if text == _NULL else text


def _max_completion_tokens(request: _Request) -> int | None:
    limits = (request.max_completion_tokens, request.max_output_tokens, request.max_tokens)
    given = [limit for limit in [number(member, MAX_TOKENS) for member in limits] if limit is not None]
    if not given:
        return None
    choices = max(number(request.n, MAX_TOKENS) or 1, number(request.best_of, MAX_TOKENS) or 1)
    return min(max(given) * choices * _prompts(request.prompt), MAX_TOKENS)


def _prompts(prompt: msgspec.Raw) -> int:
    """Of how many prompts each is completed: it may be a list of texts, or of lists of tokens. Told from what stands
    between them, which stands in no text: its quotes would be escaped."""
    text = b"" if prompt is NOTHING else bytes(prompt)
    first = _FIRST_PROMPT.match(text)
    if first is None:
        return 1
    between = _BETWEEN_LISTS if first[1] == b"[" else _BETWEEN_TEXTS
    return 1 + sum(1 for _ in islice(between.finditer(text), MAX_PROMPTS - 1))
