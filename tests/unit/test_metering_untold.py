"""What counts where an answer does not come, says nothing of its usage yet, or says what cannot be so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from metered_answers import (
    ASKED,
    BODIES,
    RESPONSE,
    STREAMS,
    chunk,
    completion,
    events,
    one_by_one,
    told,
    used_of,
)

from vastar_runtime.metering.answered import Meter, Used
from vastar_runtime.metering.asked import Asked, Asking


def stream_of(*deltas: dict[str, Any]) -> list[bytes]:
    return [events(chunk(delta)) for delta in deltas]


UNSEEN = Used("asked-for", 1000, 0, 0, is_estimated=True, lacks_completion=True)


def test_without_an_answer_what_the_request_allows_counts() -> None:
    meter = Meter(Asking.known(ASKED))
    assert meter.used() == UNSEEN
    meter.feed(STREAMS["chat"].body)
    meter.head(103, ())
    assert meter.used() == UNSEEN
    assert Meter(Asking.known(Asked("m", 5, 70))).used() == Used("m", 5, 0, 70, is_estimated=True)
    assert Meter(Asking.known(Asked("m", 5, 0))).used() == Used("m", 5, 0, 0, is_estimated=True)
    meter.head(200, ())
    assert meter.used() == Used("asked-for", 1000, 0, 0, is_estimated=True)


@pytest.mark.parametrize("status_code", [400, 401, 429, 500, 529])
def test_a_refusal_used_nothing(status_code: int) -> None:
    refusal = [b'{"error":{"message":"no, and not much of it","type":"invalid_request_error"}}']
    nothing = Used("asked-for", 0, 0, 0, is_estimated=False)
    assert used_of([], status_code=status_code) == nothing
    assert used_of(refusal, status_code=status_code) == nothing
    assert used_of([b"<html>Bad Gateway"], status_code=status_code) == nothing
    assert used_of([b"<html>"], status_code=status_code, encoding="compress") == nothing


@pytest.mark.parametrize("status_code", [200, 202, 299, 301, 304])
def test_every_other_status_may_have_used_something(status_code: int) -> None:
    assert used_of([], status_code=status_code) == Used("asked-for", 1000, 0, 0, is_estimated=True)
    assert used_of([BODIES["chat"].body], status_code=status_code) == BODIES["chat"].used


@pytest.mark.parametrize("limit", [1, 6, 7, 8, 9, None, 0])
def test_what_was_seen_counts_in_full_whatever_the_request_allows(limit: int | None) -> None:
    text = {"content": "a text of 24 characters."}
    for pieces in (stream_of(text), [json.dumps(completion(text)).encode()]):
        used = used_of(pieces, asked=Asked("m", 5, limit))
        assert (used.completion_tokens, used.is_estimated, used.lacks_completion) == (8, True, False)
    assert used_of([BODIES["chat"].body], asked=Asked("m", 5, limit)).completion_tokens == 300


NONE = {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7}


def test_a_usage_of_none_beside_a_text_is_not_believed() -> None:
    hello = {"content": "Hello, you."}
    usages = [NONE, {"input_tokens": 7, "output_tokens": 0}]
    for usage in usages:
        body = json.dumps(completion(hello, usage=usage)).encode()
        at_its_end = [events(chunk(hello), chunk(usage=usage), "[DONE]")]
        all_along = [events(*[chunk({"content": text}, usage=usage) for text in ("", "Hello,", " you.", "")])]
        for pieces in ([body], at_its_end, all_along):
            used = used_of(pieces)
            assert used == Used(used.model, 7, 0, 4, is_estimated=True)
    long = json.dumps(completion({"content": "Hello, you." * 50_000}, usage=NONE)).encode()
    assert used_of([long]) == Used("gpt-4.1-2025-04-14", 7, 0, -(-len(long) // 3), is_estimated=True)
    assert not used_of([events(chunk({"content": ""}), chunk(usage=NONE))]).is_estimated
    assert not used_of([json.dumps(completion({"content": ""}, usage=NONE)).encode()]).is_estimated


def test_a_usage_of_none_does_not_undo_another_and_is_undone_by_one() -> None:
    hello = chunk({"content": "Hello"})
    some = {**NONE, "completion_tokens": 30}
    assert used_of([events(chunk(usage=some), hello, chunk(usage=NONE))]).completion_tokens == 32
    whole = used_of([events(hello, chunk(usage=NONE), chunk(usage=some))])
    assert whole == told("gpt-4o-mini-2024-07-18", 7, 0, 30)


def test_a_prompt_of_none_is_not_believed() -> None:
    usage = {"prompt_tokens": 0, "completion_tokens": 3, "total_tokens": 3}
    used = used_of([json.dumps(completion({"content": "Hello"}, usage=usage)).encode()])
    assert used == Used("gpt-4.1-2025-04-14", 1000, 0, 3, is_estimated=True)


BEGUN = {**RESPONSE, "status": "queued", "output": [], "usage": None}


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_an_answer_that_is_not_finished_counts_as_what_the_request_allows(status: str) -> None:
    body = json.dumps({**BEGUN, "status": status}).encode()
    for pieces in ([body], one_by_one(body)):
        used = used_of(pieces, asked=Asked("m", 5, 800))
        assert used == Used("gpt-4.1-2025-04-14", 5, 0, 800, is_estimated=True)
    assert used_of([body]) == Used("gpt-4.1-2025-04-14", 1000, 0, 0, is_estimated=True, lacks_completion=True)
    assert used_of([json.dumps({**RESPONSE, "status": status}).encode()]) == BODIES["responses"].used
    for finished in ("completed", "failed", "cancelled", None):
        assert used_of([json.dumps({**BEGUN, "status": finished}).encode()], asked=Asked("m", 5, 800)) == Used(
            "gpt-4.1-2025-04-14", 5, 0, 0, is_estimated=True
        )


def test_work_that_goes_on_after_its_answer_counts_as_what_the_request_allows() -> None:
    later = Asked("m", 5, 800, answers_later=True)
    begun = events({"type": "response.created", "response": BEGUN})
    delta = events({"type": "response.output_text.delta", "delta": "A park" * 1000})
    batch = b'{"id":"msgbatch_1","type":"message_batch","processing_status":"in_progress"}'
    for pieces in ([begun], [begun, events({"type": "response.output_text.delta", "delta": "A park"})], [batch], []):
        used = used_of(pieces, asked=later)
        assert used == Used(used.model, 5, 0, 800, is_estimated=True)
    assert used_of([begun, delta], asked=later).completion_tokens == 2000
    end = events({"type": "response.completed", "response": RESPONSE})
    assert used_of([begun, delta, end], asked=later) == told("gpt-4.1-2025-04-14", 36, 32, 87)
    assert used_of([batch], asked=Asked("m", 5, None, 3, answers_later=True)).lacks_completion
