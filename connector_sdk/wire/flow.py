"""Credit: how much of a stream's body may be on its way (protocol.md part 2, rule 6). Pure."""

from __future__ import annotations

from .errors import RemoteProtocolError

DEFAULT_WINDOW_BYTES = 256 * 1024  # when the client's Hello names none
MAX_CREDIT_BYTES = 2**31 - 1


class CreditError(RemoteProtocolError):
    """A grant that the rules do not allow; it ends that stream with InvalidRequest."""


class SendWindow:
    """The daemon's side: what one stream may still send."""

    def __init__(self, size: int) -> None:
        self.credit_bytes = size

    def take(self, wanted: int) -> int:
        """Spend up to ``wanted`` bytes of credit; how many it was, 0 when there is none."""
        taken = min(wanted, self.credit_bytes)
        self.credit_bytes -= taken
        return taken

    def grant(self, delta: int) -> None:
        """The client has consumed ``delta`` bytes.

        Raises:
            CreditError: negative, or more credit than 2^31 - 1.
        """
        if delta < 0:
            raise CreditError(f"credit_delta {delta} is negative")
        if self.credit_bytes + delta > MAX_CREDIT_BYTES:
            raise CreditError(f"credit_delta {delta} lifts the stream's credit over {MAX_CREDIT_BYTES}")
        self.credit_bytes += delta


class ReceiveWindow:
    """The client's side: what may still arrive, and what its application has consumed without the daemon's knowing.

    Credit goes back in quarters of the window: one small frame for many pieces, and long before the daemon runs dry.
    Of a window over the default, in quarters of the default: the daemon may open less than was asked for, and a
    quarter that it never lets through would never come back.
    """

    def __init__(self, size: int) -> None:
        self._return_at = max(1, min(size or DEFAULT_WINDOW_BYTES, DEFAULT_WINDOW_BYTES) // 4)
        self._may_arrive = size or DEFAULT_WINDOW_BYTES
        self._consumed = 0

    def arrived(self, size: int) -> None:
        """A piece of ``size`` bytes is here.

        Raises:
            RemoteProtocolError: nobody gave the daemon credit for it.
        """
        self._may_arrive -= size
        if self._may_arrive < 0:
            raise RemoteProtocolError(f"{-self._may_arrive} bytes of a stream's body beyond its credit")

    def consume(self, size: int) -> int:
        """Count consumed bytes; the credit to return now, 0 for none yet."""
        self._consumed += size
        if self._consumed < self._return_at:
            return 0
        credit, self._consumed = self._consumed, 0
        self._may_arrive += credit
        return credit
