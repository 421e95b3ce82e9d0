"""What stories about chats share: answers of an API, time that is not waited for, and both connectors as one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
from scripted_daemon import Peer, Script, config_for, http_of

from connector_sdk.openai import (
    AsyncConversation,
    AsyncOpenAIConnector,
    ChatCompletionRequest,
    Conversation,
    Message,
    OpenAIConnector,
    RetryClock,
)
from connector_sdk.wire import ExecuteRequest

HELLO = ChatCompletionRequest("m", [Message("user", "hi")])
USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"
PATIENCE_S = 20

Answer = Callable[[Peer, ExecuteRequest], None]


class StillClock(RetryClock):
    """Time passes when somebody sleeps, and not otherwise; chance always gives the most."""

    def __init__(self, part: float = 1.0) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []
        self.part = part

    def monotonic_s(self) -> float:
        return self.now_s

    def random(self) -> float:
        return self.part

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


def event(**chunk: Any) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()


def text(content: str, **chunk: Any) -> bytes:
    return event(choices=[{"delta": {"content": content}}], **chunk)


def streaming(*pieces: bytes) -> Answer:
    """A stream of these pieces, to its end."""

    def answer(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 200, ("Content-Type", "text/event-stream"))
        for piece in pieces:
            peer.chunk(request, piece)
        peer.end(request.request_id)

    return answer


def endless(*pieces: bytes) -> Answer:
    """A stream that has no end after these pieces."""

    def answer(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 200, ("Content-Type", "text/event-stream"))
        for piece in pieces:
            peer.chunk(request, piece)

    return answer


def saying(content: str | None, **more: Any) -> Answer:
    """A completion in one piece, whichever way it is asked for."""
    message = {"role": "assistant", "content": content} | more.pop("message", {})
    body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], **more})
    headers = {"content-type": "application/json"}
    return lambda peer, request: peer.answer(request, headers=headers, body=body)


def failing(status: int, code: str | None = None, **headers: str) -> Answer:
    body = json.dumps({"error": {"message": f"status {status}", "code": code}})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda peer, request: peer.answer(request, status_code=status, headers=named, body=body)


def in_turn(*answers: Answer) -> Script:
    """The first request gets the first answer; all after the last get the last."""
    left = list(answers)
    return lambda peer, request: (left.pop(0) if len(left) > 1 else left[0])(peer, request)


def messages_of(request: ExecuteRequest) -> list[Any]:
    """The messages that a request for a completion holds."""
    messages: list[Any] = json.loads(http_of(request)["body"])["messages"]
    return messages


class Chats:
    """A connector of one of the three kinds, and conversations with it: each call runs to its end."""

    def __init__(self, kind: str, path: str) -> None:
        self.kind = kind
        self._path = path

    def connector(self, *arguments: Any, **settings: Any) -> Any:
        kind = OpenAIConnector if self.kind == "blocking" else AsyncOpenAIConnector
        return kind(*arguments, config=config_for(self._path), **settings)

    def conversation(self, connector: Any, *arguments: Any, **settings: Any) -> Any:
        kind = Conversation if self.kind == "blocking" else AsyncConversation
        return kind(connector, *arguments, **settings)

    def close(self, connector: Any) -> None:
        if self.kind == "blocking":
            connector.close()
        else:
            self._run(connector.aclose)

    def whole(self, connector: Any, request: ChatCompletionRequest = HELLO) -> str:
        return str(self._call(lambda: connector.chat_completion(request)))

    def texts(self, connector: Any, request: ChatCompletionRequest = HELLO, most: int = 1000) -> list[str]:
        return self._read(lambda: connector.chat_completion_stream(request), most)

    def ask(self, conversation: Any, question: str | None = None, most: int = 1000) -> list[str]:
        """The texts of an answer, which is left after so many."""
        return self._read(lambda: conversation.ask(question), most)

    def ask_whole(self, conversation: Any, question: str | None = None) -> str:
        return str(self._call(lambda: conversation.ask(question, stream=False)))

    def _call(self, call: Callable[[], Any]) -> Any:
        if self.kind == "blocking":
            return call()

        async def wait() -> Any:
            return await call()

        return self._run(wait)

    def _read(self, open_: Callable[[], Any], most: int) -> list[str]:
        items: list[str] = []
        if self.kind == "blocking":
            stream = open_()
            for item in stream:
                items.append(item)
                if len(items) == most:
                    stream.close()
            return items

        async def read() -> None:
            async with open_() as stream:
                async for item in stream:
                    items.append(item)
                    if len(items) == most:
                        return

        self._run(read)
        return items

    def _run(self, main: Callable[[], Any]) -> Any:
        async def limited() -> Any:
            with anyio.fail_after(PATIENCE_S):
                return await main()

        return anyio.run(limited, backend=self.kind)


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def chats(request: pytest.FixtureRequest, socket_path: str) -> Chats:
    return Chats(request.param, socket_path)


def roles(messages: Sequence[Any]) -> list[str]:
    return [message["role"] if isinstance(message, dict) else message.role for message in messages]
