"""An upstream that speaks like OpenAI's chat completions, and knows what was used."""

from __future__ import annotations

import json
from typing import Any

from upstream import Peer

CHAT = "/v1/chat/completions"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def question(model: str = "gpt-4o", **members: Any) -> str:
    """The body of a request."""
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], **members})


def chat(origin: str, **members: Any) -> dict[str, Any]:
    """The parameters of a request."""
    return {"method": "POST", "url": origin + CHAT, "body": question(**members)}


class ModelUpstream:
    """Answers every request with as many words as its max_tokens says.

    Attributes:
        used: tokens of all answers that were sent whole.
        words: that were sent in events.
        goes_on: no stream ends.
    """

    prompt_tokens = 3

    def __init__(self) -> None:
        self.used = 0
        self.words = 0
        self.goes_on = False

    async def __call__(self, peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            if request.method != "POST":
                await peer.respond(b'{"data": []}')
                continue
            asked = json.loads(request.body)
            completion_tokens = asked.get("max_tokens", 10)
            usage = {"prompt_tokens": self.prompt_tokens, "completion_tokens": completion_tokens}
            if not asked.get("stream"):
                self.used += self.prompt_tokens + completion_tokens
                await peer.respond(json.dumps({"model": asked["model"], "choices": [], "usage": usage}).encode())
                continue
            await peer.send(_STREAM)
            for _ in range(completion_tokens):
                delta = {"index": 0, "delta": {"content": "word "}}
                self.words += 1
                await self._event(peer, {"model": asked["model"], "choices": [delta]})
            if self.goes_on:
                await peer.gone()
                return
            if asked.get("stream_options"):
                self.used += self.prompt_tokens + completion_tokens
                await self._event(peer, {"model": asked["model"], "choices": [], "usage": usage})
            await peer.send(b"0\r\n\r\n")

    async def _event(self, peer: Peer, members: dict[str, Any]) -> None:
        data = b"data: " + json.dumps(members).encode() + b"\n\n"
        await peer.send(b"%x\r\n%b\r\n" % (len(data), data))
