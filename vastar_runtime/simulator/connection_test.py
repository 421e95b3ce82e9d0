"""``POST /test_completion`` of the existing RAI endpoint simulator: a fixed answer, which says that one arrives."""

from typing import Any

import msgspec

from . import answers, completion

PATH = "/test_completion"

_TEXT = "The connection to the simulator works."


class _Probe(msgspec.Struct):
    messages: msgspec.Raw = msgspec.Raw()


def is_chat(body: bytes) -> bool:
    """Whether a body is, or was meant to be, a chat completion request; otherwise the answer is the fixed one."""
    try:
        return bool(bytes(msgspec.json.decode(body, type=_Probe).messages))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def fixed_completion() -> dict[str, Any]:
    """A ``chat.completion`` object, always the same."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": _TEXT, "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return {
        "id": "chatcmpl-test-completion",
        "object": "chat.completion",
        "created": 1_735_689_600,
        "model": "simulator",
        "choices": [choice],
        "system_fingerprint": "fp_simulator",
        "usage": completion.usage(1, answers.count_tokens(_TEXT)),
    }
