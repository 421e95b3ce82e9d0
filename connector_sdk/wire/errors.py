"""What can go wrong on the wire, one tree:

ProtocolError
├── RemoteProtocolError     the peer broke the rules
│   ├── MalformedMessage    a frame whose payload is no valid message; the next frame can still be read
│   │   └── UnknownMessageType
│   └── BadFrameLength      the framing itself is lost; the connection cannot go on
└── LocalProtocolError      our own caller asked for something the protocol cannot say
"""


class ProtocolError(Exception):
    """The root of the wire's errors."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow."""


class MalformedMessage(RemoteProtocolError):
    """The payload of a frame is not what its type says."""


class UnknownMessageType(MalformedMessage):
    """The type byte of a frame is none that this version knows."""


class BadFrameLength(RemoteProtocolError):
    """A frame's length is 0 or above the limit, so that nobody knows where the next frame begins."""


class LocalProtocolError(ProtocolError):
    """A message that cannot be sent: too long for a frame, or a value that its field cannot hold."""
