"""What a request asks of a language model. Pure.

Known are OpenAI's chat completions, completions, responses and embeddings, Anthropic's messages and batches of them,
and what speaks like them, as almost every provider and local server does. A body on one of their paths is counted
whether it can be read or not: some server may read it. Elsewhere it must look like one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import islice

import msgspec

from .api_paths import Api, api_of
from .estimate import BYTES_PER_TOKEN, estimated_tokens, tokens_of_ascii
from .members import MAX_MODEL_CHARACTERS as MAX_MODEL_CHARACTERS
from .members import NOTHING, amount, name
from .request_batch import read_batch
from .request_body import MAX_LISTED, as_utf8, is_long_and_names_none, is_object, members_of, model_in

# A thousand times what the largest model takes. A greater number is a mistake, or meant to overflow something.
MAX_TOKENS = 1_000_000_000
# What a provider writes around the whole. Around each message it writes 3 to 7 tokens, for which our count has those
# of {"role":"user","content":""}.
REQUEST_TOKENS = 4
# OpenAI's limit for one request.
MAX_PROMPTS = 2048
# A text with more quotes is not searched for where prompts end: it takes 4 ms.
MAX_LOOKED_AT = 400_000

_METHODS = ("POST", "PUT", "PATCH")
_PROMPTS = frozenset(("messages", "prompt", "input"))
_LIMITS = frozenset(("max_tokens", "max_completion_tokens", "max_output_tokens"))
_CHOICES = frozenset(("n", "best_of"))
# Short values of these are no part of the prompt. Of everything else servers may make one.
_SETTINGS = _LIMITS | _CHOICES
_SETTINGS |= {"model", "stream", "stream_options", "temperature", "top_p", "top_k", "presence_penalty", "seed", "user"}
_SETTINGS |= {"frequency_penalty", "store", "service_tier", "reasoning_effort", "encoding_format", "dimensions"}
_SETTINGS |= {"logprobs", "top_logprobs", "parallel_tool_calls", "background"}
_FOLDED = _PROMPTS | _SETTINGS | {"requests"}
_MAX_SETTING_BYTES = 64
_MEMBER_BYTES = len('"":,')
_NO_BACKGROUND = (b"false", b"null", b"0")

_FIRST_PROMPT = re.compile(rb'\[[ \t\r\n]*(["\[])')
_BETWEEN_TEXTS = re.compile(rb'"[ \t\r\n]*,[ \t\r\n]*"')
_BETWEEN_LISTS = re.compile(rb"\][ \t\r\n]*,[ \t\r\n]*\[")


class Asked(msgspec.Struct, frozen=True):
    """One request to a language model.

    Attributes:
        model: as asked for, printable, at most MAX_MODEL_CHARACTERS; "" when the request does not say.
        prompt_tokens: an estimate, rather too many than too few.
        max_completion_tokens: what the request allows in all its choices, at most MAX_TOKENS; 0: what it asks for has
            no completion; None: it does not say.
        completions: how many it asks for, at most MAX_TOKENS: an assumption in place of None holds for each.
        answers_later: the answer may say no more than that the work has begun.
    """

    model: str
    prompt_tokens: int
    max_completion_tokens: int | None
    completions: int = 1
    answers_later: bool = False


class Asking:
    """One request to a language model, whose body is read when somebody wants to know what it asks for: most answers
    tell all that counts.

    Args:
        read: once, if at all.
    """

    __slots__ = ("_asked", "_read")

    def __init__(self, read: Callable[[], Asked]) -> None:
        self._read: Callable[[], Asked] | None = read
        self._asked: Asked | None = None

    @classmethod
    def known(cls, asked: Asked) -> Asking:
        """One that has been read."""
        return cls(lambda: asked)

    @property
    def asked(self) -> Asked:
        """What it asks for."""
        if self._asked is None:
            assert self._read is not None
            self._asked, self._read = self._read(), None  # with the body that it holds
        return self._asked


def begin_reading(method: str, path: str, body: bytes) -> Asking | None:
    """What the request asks for; None when it is none to a language model. Where the path tells that it is one, its
    body is not read yet.

    Args:
        method: in upper case.
        path: of the URL, with or without its query.
    """
    if not body or method not in _METHODS:
        return None
    api = api_of(path)
    if api.counts_only:
        return None
    if api.is_known:
        return Asking(partial(_read_known, api, body))
    asked = _read_body(api, body)
    return None if asked is None else Asking.known(asked)


def _read_known(api: Api, body: bytes) -> Asked:
    asked = _read_body(api, body)
    assert asked is not None  # on such a path every body asks for something
    return asked


def _read_body(api: Api, body: bytes) -> Asked | None:
    text = as_utf8(body)
    if not is_object(text):
        return _unread(api, text) if api.is_known else None
    if not api.is_known and is_long_and_names_none(text):
        return None
    members = members_of(text)
    if members is None:
        return _unread(api, text)
    return _read(api, text, members)


def _read(api: Api, text: bytes, members: dict[str, msgspec.Raw]) -> Asked | None:
    """By its members. Where there are several for one thing, or names in different case, the greatest number holds:
    servers differ in which they obey."""
    model = other_model = ""
    prompt = requests = NOTHING
    has_prompt = answers_later = False
    limit, choices, around = 0, 1, 1
    for key, value in members.items():
        known = key if key in _FOLDED else key.casefold()
        if known in _PROMPTS:
            has_prompt = True
            around += len(key) + _MEMBER_BYTES
            if known == "prompt":
                prompt = value
        elif known in _SETTINGS:
            size = len(bytes(value))
            if size <= _MAX_SETTING_BYTES:
                around += len(key) + size + _MEMBER_BYTES
            if known == "model":
                if known is key:
                    model = name(value)
                else:
                    other_model = name(value)
            elif known in _LIMITS:
                limit = max(limit, amount(value, MAX_TOKENS) or 0)
            elif known in _CHOICES:
                choices = max(choices, amount(value, MAX_TOKENS) or 1)
            elif known == "background":
                answers_later = bytes(value) not in _NO_BACKGROUND
        elif known == "requests":
            requests = value
    model = api.deployment or model or other_model
    allowed: int | None
    if requests is not NOTHING and not has_prompt:
        batch = read_batch(requests, MAX_TOKENS)
        model = model or batch.model
        allowed, completions = batch.max_completion_tokens, batch.completions
        has_prompt = answers_later = True
    else:
        completions = min(choices * (1 if prompt is NOTHING else _prompts(bytes(prompt))), MAX_TOKENS)
        allowed = min(limit * completions, MAX_TOKENS) or None
    # Among more members than are listed it may be named in another case, or within a batch that was not looked through.
    if not (model and has_prompt) and text.count(b":") > MAX_LISTED:
        model = model_in(text, with_prompt=True) or model
        has_prompt = True
    if not (api.is_known or api.deployment or (model and has_prompt)):
        return None
    if not api.has_completion:
        allowed = 0
    tokens = max(0, estimated_tokens(text) - around // BYTES_PER_TOKEN)
    return Asked(model, tokens + REQUEST_TOKENS, allowed, completions, answers_later)


def _unread(api: Api, text: bytes) -> Asked | None:
    """By its size, and the little that can be found in it."""
    found = model_in(text, with_prompt=not api.is_known)
    if not (api.is_known or found):
        return None
    tokens = estimated_tokens(text) if is_object(text) else tokens_of_ascii(len(text))
    return Asked(api.deployment or found or "", tokens + REQUEST_TOKENS, None if api.has_completion else 0)


def _prompts(prompt: bytes) -> int:
    """Of how many prompts each is completed: it may be a list of texts, or of lists of tokens. Told from what stands
    between them, which stands in no text: its quotes would be escaped."""
    first = _FIRST_PROMPT.match(prompt)
    if first is None:
        return 1
    if prompt.count(first[1]) > MAX_LOOKED_AT:
        return MAX_PROMPTS
    between = _BETWEEN_LISTS if first[1] == b"[" else _BETWEEN_TEXTS
    return 1 + sum(1 for _ in islice(between.finditer(prompt), MAX_PROMPTS - 1))
