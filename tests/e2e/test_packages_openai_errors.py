"""The official ``openai`` package where the API fails: every story goes the same directly and through the daemon."""

from __future__ import annotations

import uuid
from typing import Any

import openai
import pytest
from openai_suite import ASKED, HELLO, suite
from package_stories import Suite, failure, got, items_of, plain, plain_error, simulate

__all__ = ["suite"]  # the fixture


def test_the_apis_errors(suite: Suite) -> None:
    async def story(client: Any) -> Any:
        wrong_key = client.with_options(api_key="sk-wrong")
        chat, wrong_chat = client.chat.completions, wrong_key.chat.completions
        busy, broken = simulate("status=429;retry-after=7"), simulate("status=500")
        return [
            await failure(lambda: chat.create(model="large", messages=[]), openai.BadRequestError),
            await failure(lambda: client.responses.create(model="large", input=[]), openai.BadRequestError),
            await failure(lambda: wrong_chat.create(**ASKED), openai.AuthenticationError),
            await failure(lambda: chat.create(model="unknown", messages=HELLO, stream=True), openai.NotFoundError),
            await failure(lambda: client.models.retrieve("unknown"), openai.NotFoundError),
            await failure(lambda: chat.create(**ASKED, extra_headers=busy), openai.RateLimitError),
            await failure(lambda: chat.create(**ASKED, extra_headers=broken), openai.InternalServerError),
        ]

    errors = suite.told(story)
    assert [(error["status_code"], error["param"], error["code"]) for error in errors[:5]] == [
        (400, "messages", errors[0]["code"]),
        (400, "input", "empty_array"),
        (401, None, "invalid_api_key"),
        (404, errors[3]["param"], "model_not_found"),
        (404, errors[4]["param"], "model_not_found"),
    ]
    assert [(error["status_code"], error["retry_after"]) for error in errors[5:]] == [(429, "7"), (500, None)]
    assert all(error["body"]["message"] for error in errors)


def test_the_package_tries_again_as_long_as_it_was_told(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def at_once(client: Any, *args: Any) -> float:
        waits.append(calculated(client, *args))
        return 0

    calculated = openai._base_client.BaseClient._calculate_retry_timeout
    monkeypatch.setattr(openai._base_client.BaseClient, "_calculate_retry_timeout", at_once)

    async def story(client: Any) -> Any:
        waits.clear()
        user, other = uuid.uuid4().hex, uuid.uuid4().hex
        patient = client.with_options(max_retries=2)
        header = simulate("status=429;retry-after=7;first=2")
        found = await got(patient.chat.completions.create(**ASKED, user=user, extra_headers=header))
        error = await failure(
            lambda: patient.with_options(max_retries=1).chat.completions.create(
                **ASKED, user=other, extra_headers=simulate("status=500")
            ),
            openai.InternalServerError,
        )
        return [plain(found), error, waits[:2], len(waits), suite.seen(user), suite.seen(other)]

    found, _, named, waited, asked, failed = suite.told(story)
    assert found["choices"][0]["message"]["content"]
    assert (named, waited, asked, failed) == ([7, 7], 3, 3, 2)


def test_a_stream_that_breaks_off_and_an_answer_that_does_not_come(suite: Suite) -> None:
    async def story(client: Any) -> Any:
        stream = await got(client.chat.completions.create(**ASKED, stream=True, extra_headers=simulate("cut-after=5")))
        chunks: list[Any] = []
        with pytest.raises(openai.APIConnectionError) as cut:
            await items_of(stream, chunks)
        hasty = client.with_options(timeout=0.1)
        late = await failure(
            lambda: hasty.chat.completions.create(**ASKED, extra_headers=simulate("hang")), openai.APITimeoutError
        )
        return [plain(chunks), plain_error(cut.value), type(cut.value.__cause__).__name__, late]

    chunks, *_ = suite.told(story)
    assert len(chunks) == 5
