"""OpenAI's ``POST /v1/responses``: its ``response`` object and its stream of events.

Source: OpenAI API reference, "The response object". The request is in responses_request.py.
"""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec

from .reply import Reply
from .responses_events import as_events
from .responses_request import Reasoning, ResponsesRequest, SchemaFormat, parse

__all__ = ["PATH", "ResponseAnswer", "answer", "parse"]

PATH = "/v1/responses"


class ResponseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, before it takes the shape of JSON or of a stream.

    Attributes:
        id: "resp_" and 32 hexadecimal digits.
        created: Unix time in seconds.
        output: the finished items: a message, or the function calls.
    """

    id: str
    created: int
    request: ResponsesRequest
    reply: Reply
    output: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """The ``response`` object."""
        reply = self.reply
        return self._response(
            status="incomplete" if reply.is_cut else "completed",
            completed_at=None if reply.is_cut else self.created,
            incomplete_details={"reason": "max_output_tokens"} if reply.is_cut else None,
            output=self.output,
            usage={
                "input_tokens": reply.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": reply.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": reply.prompt_tokens + reply.completion_tokens,
            },
        )

    def as_events(self) -> Iterator[bytes]:
        """Server-sent events, from response.created to response.completed or response.incomplete."""
        begun = self._response(status="in_progress", completed_at=None, incomplete_details=None, output=[], usage=None)
        return as_events(begun, self.as_json())

    def _response(self, **progress: Any) -> dict[str, Any]:
        asked = self.request
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "background": False,
            "error": None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "max_tool_calls": asked.max_tool_calls,
            "metadata": asked.metadata or {},
            "model": asked.model,
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "prompt_cache_key": asked.prompt_cache_key,
            "reasoning": msgspec.to_builtins(asked.reasoning or Reasoning()),
            "safety_identifier": asked.safety_identifier,
            # Where the API may choose, it says what it has chosen.
            "service_tier": "default" if asked.service_tier in (None, "auto") else asked.service_tier,
            "temperature": 1.0 if asked.temperature is None else asked.temperature,
            "text": _text_options(asked),
            "tool_choice": _tool_choice(asked),
            "tools": [
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                    "strict": tool.strict is not False,
                }
                for tool in asked.tools or ()
            ],
            "top_logprobs": 0,
            "top_p": 1.0 if asked.top_p is None else asked.top_p,
            "truncation": asked.truncation or "disabled",
            "user": asked.user,
        } | progress


def answer(request: ResponsesRequest, reply: Reply) -> ResponseAnswer:
    """The reply in this API's form, with ids of its own."""
    output: list[dict[str, Any]] = []
    if reply.text or not reply.tool_calls:
        text = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
        status = "incomplete" if reply.is_cut else "completed"
        output.append({"id": _id("msg"), "type": "message", "status": status, "role": "assistant", "content": [text]})
    output += (
        {
            "id": _id("fc"),
            "type": "function_call",
            "status": "completed",
            "call_id": _id("call"),
            "name": call.name,
            "arguments": call.arguments,
        }
        for call in reply.tool_calls
    )
    return ResponseAnswer(id=_id("resp"), created=int(time.time()), request=request, reply=reply, output=output)


def _text_options(request: ResponsesRequest) -> dict[str, Any]:
    options = request.text
    verbosity = options.verbosity if options and options.verbosity else "medium"
    if options is None or options.format is None:
        return {"format": {"type": "text"}, "verbosity": verbosity}
    form = msgspec.to_builtins(options.format)
    if isinstance(options.format, SchemaFormat):
        form["strict"] = options.format.strict is True
    return {"format": form, "verbosity": verbosity}


def _tool_choice(request: ResponsesRequest) -> Any:
    return msgspec.to_builtins(request.tool_choice or "auto")


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
