"""The streams of the RAI endpoint simulator, as the simulator sends them with ``rai``, read by the SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from daemon_process import DaemonProcess
from package_stories import CALL_TIMEOUT_S, simulator_thread

from connector_sdk import RuntimeConfig, SSEParser
from connector_sdk.openai import ChatCompletionRequest, Message, OpenAIConnector

TEXT = "# Judul\n\nKoneksi berhasil — 東京, żółw, 👩‍👩‍👧 dan é.\n\n```python\nprint('selesai')\n```"
HELLO = ChatCompletionRequest("any", [Message("user", "Hello")])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("zresponse")
    (folder / "one.md").write_text(TEXT, encoding="utf-8")
    with simulator_thread(rai=True, responses=str(folder)) as url:
        yield url


def stream(url: str) -> str:
    request = Request(f"{url}/v1/chat/completions", b'{"model": "any"}', {"content-type": "application/json"})
    with urlopen(request, timeout=CALL_TIMEOUT_S) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        body: bytes = answer.read()
    return body.decode()


def test_the_parser_reads_them(url: str) -> None:
    body = stream(url)
    assert "[DONE]" not in body
    assert SSEParser.parse_stream(body) == TEXT
    assert "".join(SSEParser.parse_stream_generator(body)) == TEXT
    events = [event for event in body.split("\n\n") if event]
    assert "".join(SSEParser.parse_chunk(f"{event}\n\n") or "" for event in events) == TEXT
    *chunks, usage = (json.loads(event.removeprefix("data: ")) for event in events)
    pieces = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    assert all(1 <= len(piece.encode()) <= 10 for piece in pieces)
    assert {chunk["choices"][0]["finish_reason"] for chunk in chunks} == {None}
    assert len({chunk["id"] for chunk in chunks}) == len(chunks)
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == usage["usage"]["prompt_tokens"] + usage["usage"]["completion_tokens"]


def test_the_connector_reads_them_through_the_daemon(url: str, running: DaemonProcess) -> None:
    config = RuntimeConfig(socket_path=running.socket_path, use_tcp=False)
    with OpenAIConnector(url, config=config) as connector:
        assert "".join(connector.chat_completion_stream(HELLO)) == TEXT
        chunks = list(connector.stream_chunks(HELLO))
    assert chunks[-1].usage is not None
