"""A frame of any type with any payload, be it a message or not."""

from connector_sdk.wire.framing import frame_header


def encode_frame(message_type: int, payload: bytes) -> bytes:
    """Its bytes; LocalProtocolError as ``frame_header``."""
    return frame_header(message_type, len(payload)) + payload
