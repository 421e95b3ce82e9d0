"""The life of one exchange, as both ends see it: a table of transitions (protocol.md part 2, rules 3 and 4)."""

from __future__ import annotations

import enum

from .messages import BodyChunk, ExecuteResponse, Message, ResponseEnd, ResponseHead, ResponseMode


class ExchangeState(enum.StrEnum):
    """What is to come.

    A string, because that hashes in C; the hash of a plain enum's member is a call of Python, for every chunk.
    """

    ANSWER_AWAITED = "answer awaited"  # of a buffered request
    HEAD_AWAITED = "head awaited"
    BODY = "body"
    DONE = "done"


_BEGINS = {
    ResponseMode.BUFFERED: ExchangeState.ANSWER_AWAITED,
    ResponseMode.STREAM: ExchangeState.HEAD_AWAITED,
}

TRANSITIONS: dict[tuple[ExchangeState, type[Message]], ExchangeState] = {
    (ExchangeState.ANSWER_AWAITED, ExecuteResponse): ExchangeState.DONE,
    (ExchangeState.HEAD_AWAITED, ResponseHead): ExchangeState.BODY,
    (ExchangeState.HEAD_AWAITED, ResponseEnd): ExchangeState.DONE,  # it failed before there was a head
    (ExchangeState.HEAD_AWAITED, ExecuteResponse): ExchangeState.DONE,  # refused before it was a stream
    (ExchangeState.BODY, BodyChunk): ExchangeState.BODY,
    (ExchangeState.BODY, ResponseEnd): ExchangeState.DONE,
}


def begin(mode: ResponseMode) -> ExchangeState:
    """The state after the request."""
    return _BEGINS[mode]


def advance(state: ExchangeState, message: Message) -> ExchangeState | None:
    """The state after a message from the daemon, or None where the message has no place."""
    return TRANSITIONS.get((state, type(message)))
