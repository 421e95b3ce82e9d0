"""Completions that are asked for again: when, how often, after how long; and when not."""

from __future__ import annotations

import contextlib
import pickle
from typing import Any

import anyio
import pytest
from chat_stories import (
    HELLO,
    Chats,
    StillClock,
    chats,
    endless,
    event,
    failing,
    in_turn,
    saying,
    streaming,
    text,
)
from scripted_daemon import Peer, ScriptedDaemon, config_for, socket_path

from connector_sdk import APIError, ConnectorException, ErrorClass, StreamError
from connector_sdk.openai import AsyncOpenAIConnector, OpenAIConnector, RetryClock
from connector_sdk.retry_after import MAX_RETRY_AFTER_MS, retry_after_ms
from connector_sdk.wire import ExecuteRequest, ExecuteResponse, ResponseEnd, ResponseMode

__all__ = ["chats", "socket_path"]


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


def _refused_by_the_daemon(retry_after_ms: int) -> Any:
    def answer(peer: Peer, request: ExecuteRequest) -> None:
        kind = ExecuteResponse if request.response_mode is ResponseMode.BUFFERED else ResponseEnd
        refusal = kind(
            request_id=request.request_id,
            error_class=ErrorClass.RATE_LIMITED,
            error_message="over the limit",
            retry_after_ms=retry_after_ms,
        )
        peer.say(refusal)

    return answer


def _failed_in_the_daemon(error_class: ErrorClass, retry_after_ms: int = 0, attempts: int = 0) -> Any:
    def answer(peer: Peer, request: ExecuteRequest) -> None:
        kind = ExecuteResponse if request.response_mode is ResponseMode.BUFFERED else ResponseEnd
        failure = kind(
            request_id=request.request_id,
            error_class=error_class,
            error_message="said by the daemon",
            retry_after_ms=retry_after_ms,
            attempts=attempts,
        )
        peer.say(failure)

    return answer


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        (_failed_in_the_daemon(ErrorClass.TRANSIENT, attempts=3), 1),
        (_failed_in_the_daemon(ErrorClass.TIMEOUT, attempts=2), 1),
        (_failed_in_the_daemon(ErrorClass.TRANSIENT, retry_after_ms=30_000), 1),
        (_failed_in_the_daemon(ErrorClass.TRANSIENT, attempts=1), 2),
        (_failed_in_the_daemon(ErrorClass.TRANSIENT, retry_after_ms=700, attempts=1), 2),
        (_failed_in_the_daemon(ErrorClass.TRANSIENT), 2),
        (_failed_in_the_daemon(ErrorClass.RATE_LIMITED, retry_after_ms=700), 2),
        (failing(503, retry_after="30"), 2),
    ],
)
def test_what_the_daemon_tried_again_in_vain_or_leaves_alone_is_said_at_once(
    chats: Chats, clock: StillClock, socket_path: str, failure: Any, tries: int
) -> None:
    """Such retries would open the circuit, hide behind it what is wrong, and wait for it."""
    with ScriptedDaemon(failure, socket_path) as daemon:
        connector = chats.connector(retry_clock=clock, max_retries=1)
        for ask in (chats.whole, chats.texts):
            daemon.requests.clear()
            with pytest.raises(ConnectorException, match=r"said by the daemon|status 503"):
                ask(connector)
            assert len(daemon.requests) == tries
        assert len(clock.slept_s) == 2 * (tries - 1)
        chats.close(connector)


def test_who_wants_to_know_is_told_of_each_wait_and_of_no_key(
    chats: Chats, clock: StillClock, socket_path: str
) -> None:
    key = "sk-0123456789abcdef"
    told: list[tuple[str, float]] = []

    def busy(peer: Peer, request: ExecuteRequest) -> None:
        peer.answer(request, status_code=503, headers={"retry-after": "3"}, body=f"busy with {key}")

    with ScriptedDaemon(in_turn(failing(500), busy, saying("a")), socket_path):
        connector = chats.connector(
            api_key=key, retry_clock=clock, on_retry=lambda error, wait_s: told.append((str(error), wait_s))
        )
        assert chats.whole(connector) == "a"
        assert told == [("status 500", 0.5), ("the API answered with status 503: busy with [api key]", 3)]
        chats.close(connector)


def test_what_may_pass_is_asked_for_again_within_the_time_of_the_completion(
    chats: Chats, clock: StillClock, socket_path: str
) -> None:
    answers = [failing(503), failing(429, retry_after="3"), _refused_by_the_daemon(2500), failing(409), saying("done")]
    with ScriptedDaemon(in_turn(*answers), socket_path) as daemon:
        connector = chats.connector(retry_clock=clock, max_retries=4, timeout_ms=20_000)
        assert chats.whole(connector) == "done"
        assert clock.slept_s == [0.5, 3, 2.5, 4]
        assert [asked["timeout_ms"] for asked in daemon.payloads] == [20_000, 19_500, 16_500, 14_000, 10_000]
        daemon.script = in_turn(*answers[:-1], streaming(text("do"), text("ne")))
        assert chats.texts(connector) == ["do", "ne"]
        assert clock.slept_s == [0.5, 3, 2.5, 4] * 2
        chats.close(connector)


def test_two_retries_unless_it_is_told_otherwise(chats: Chats, socket_path: str) -> None:
    with ScriptedDaemon(failing(500), socket_path) as daemon:
        for settings, tries in (({}, 3), ({"max_retries": 0}, 1), ({"max_retries": 1}, 2)):
            connector = chats.connector(retry_clock=StillClock(), **settings)
            daemon.requests.clear()
            with pytest.raises(APIError, match="status 500"):
                chats.whole(connector)
            with pytest.raises(APIError, match="status 500"):
                chats.texts(connector)
            assert len(daemon.requests) == 2 * tries
            chats.close(connector)


@pytest.mark.parametrize("answer", [failing(400), failing(401), failing(404), failing(429, "insufficient_quota")])
def test_what_will_not_pass_is_not_asked_for_again(chats: Chats, socket_path: str, answer: Any) -> None:
    with ScriptedDaemon(answer, socket_path) as daemon:
        connector = chats.connector(retry_clock=StillClock())
        for ask in (chats.whole, chats.texts):
            with pytest.raises(APIError):
                ask(connector)
        assert len(daemon.requests) == 2
        chats.close(connector)


def test_a_wait_that_does_not_fit_is_not_begun(chats: Chats, clock: StillClock, socket_path: str) -> None:
    with ScriptedDaemon(in_turn(failing(500), failing(429, retry_after="30")), socket_path) as daemon:
        connector = chats.connector(retry_clock=clock, timeout_ms=30_400)
        for ask in (chats.whole, chats.texts):
            daemon.script = in_turn(failing(500), failing(429, retry_after="30"))
            with pytest.raises(APIError, match="status 429") as e:
                ask(connector)
            assert e.value.retry_after_ms == 30_000
        assert clock.slept_s == [0.5, 0.5]
        assert len(daemon.requests) == 4
        chats.close(connector)


def test_a_stream_is_not_begun_again_once_a_piece_of_it_is_there(chats: Chats, socket_path: str) -> None:
    broken = event(error={"message": "out of luck", "type": "server_error"})
    with ScriptedDaemon(in_turn(streaming(broken), streaming(text("one"), broken)), socket_path) as daemon:
        connector = chats.connector(retry_clock=StillClock())
        with pytest.raises(APIError, match="out of luck"):
            chats.texts(connector)
        assert len(daemon.requests) == 2
        chats.close(connector)


def test_a_stream_that_breaks_off_before_its_first_piece_is_cancelled_and_asked_for_again(
    chats: Chats, socket_path: str
) -> None:
    answers = (endless(event(error={"message": "busy", "code": "503"})), streaming(b"data: {"), streaming(text("all")))
    with ScriptedDaemon(in_turn(*answers), socket_path) as daemon:
        connector = chats.connector(retry_clock=StillClock())
        assert chats.texts(connector) == ["all"]
        assert daemon.cancelled == [daemon.requests[0].request_id]
        daemon.script = streaming(b"data: {")
        with pytest.raises(StreamError, match="broke off"):
            chats.texts(connector)
        chats.close(connector)


def test_a_daemon_that_is_not_there_yet_is_waited_for(socket_path: str) -> None:
    """A restart takes a moment."""

    class Starting(StillClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if len(self.slept_s) == 2:
                stack.enter_context(ScriptedDaemon(saying("here"), socket_path))

    with contextlib.ExitStack() as stack:
        connector = OpenAIConnector(config=config_for(socket_path), retry_clock=Starting())
        assert connector.chat_completion(HELLO) == "here"
        connector.close()


def test_the_jitter_takes_any_part_of_the_wait(socket_path: str) -> None:
    with ScriptedDaemon(in_turn(failing(500), failing(500), saying("a")), socket_path):
        clock = StillClock(part=0.0)
        with OpenAIConnector(config=config_for(socket_path), retry_clock=clock) as connector:
            connector.chat_completion(HELLO)
        assert clock.slept_s == [0, 0]


@pytest.mark.parametrize("connector", [OpenAIConnector, AsyncOpenAIConnector])
@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"max_retries": -1}, "max_retries: -1 cannot be used; it takes a number from 0 to 1000"),
        ({"stream_buffer": 0}, "stream_buffer: 0 cannot be used; it takes a number from 1 to 8192"),
        ({"stream_buffer": 8193}, "stream_buffer: 8193 cannot be used"),
        ({"max_tokens": 0}, "max_tokens: 0"),
        ({"temperature": float("nan")}, "temperature: nan"),
        ({"model": ""}, "model: ''"),
    ],
)
def test_settings_that_cannot_be_used_are_named(connector: Any, settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConnectorException) as e:
        connector(**settings)
    assert error in str(e.value)


@pytest.mark.parametrize(
    ("headers", "wanted_ms"),
    [
        ({}, 0),
        ({"retry-after": "2"}, 2000),
        ({"retry-after": " 1.5 "}, 1500),
        ({"retry-after-ms": "250"}, 250),
        ({"retry-after-ms": "250.4", "retry-after": "9"}, 251),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9000),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90_000),
        ({"retry-after": "Thursday, 01-Jan-70 00:01:40 GMT"}, 90_000),
        ({"retry-after": "Thu Jan  1 00:01:40 1970"}, 90_000),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:05 GMT"}, 0),
        ({"retry-after": "9" * 60}, MAX_RETRY_AFTER_MS),
        ({"retry-after": "9" * 5000}, 0),
        ({"retry-after": "-1"}, 0),
        ({"retry-after": "nan"}, 0),
        ({"retry-after": "1e9"}, 0),
        ({"retry-after": "\u0661"}, 0),
        ({"retry-after": "Thu, 99 Jan 99999999999999 99:99:99 GMT"}, 0),
        ({"retry-after": "tomorrow"}, 0),
    ],
)
def test_what_an_answer_asks_for(headers: dict[str, str], wanted_ms: int) -> None:
    assert retry_after_ms(headers, lambda: 10.0) == wanted_ms


def test_an_error_keeps_what_the_api_asked_for_when_it_is_pickled() -> None:
    error = APIError.from_error_object({"message": "slow down"}, 429, retry_after_ms=700)
    assert pickle.loads(pickle.dumps(error)).retry_after_ms == 700


def test_the_clock_of_whoever_has_no_other() -> None:
    clock = RetryClock()
    assert 0 <= clock.random() <= 1
    clock.sleep(0)
    for backend in ("asyncio", "trio"):
        anyio.run(clock.sleep_async, 0, backend=backend)
