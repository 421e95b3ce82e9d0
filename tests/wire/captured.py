"""The frames of ``legacy-wire.json``, captured between SDKs in four languages and the existing runtime."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from connector_sdk.wire import Message


class Captured(NamedTuple):
    """One frame: its bytes, and what it says."""

    client: str
    direction: str
    message_type: int
    frame: bytes
    fields: dict[str, Any]

    @property
    def payload(self) -> bytes:
        return self.frame[5:]


CAPTURED = tuple(
    Captured(
        client=entry["client"],
        direction=entry["direction"],
        message_type=entry["message_type"],
        frame=bytes.fromhex(entry["frame_hex"]),
        fields=entry["fields"],
    )
    for entry in json.loads((Path(__file__).parent / "legacy-wire.json").read_text(encoding="utf-8"))
)
CLIENTS = tuple(sorted({captured.client for captured in CAPTURED}))
IDS = tuple(f"{index}-{captured.client}-{captured.direction}" for index, captured in enumerate(CAPTURED))


def fields_of(message: Message, names: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``names`` as the captures write them: the payload is text."""
    values = {name: getattr(message, name) for name in names}
    if values["payload"] is not None:
        values["payload"] = values["payload"].decode()
    return values
