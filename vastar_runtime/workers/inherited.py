"""What a worker process is born with: the descriptors that it shares, and its place."""

from __future__ import annotations

import msgspec


class Inherited(msgspec.Struct, frozen=True, kw_only=True):
    """The argument of a worker's program, as JSON.

    Attributes:
        version: of the supervisor; a worker of another one (an installation that changed meanwhile) must not start.
        supervisor_pid: its parent.
        slot: its place on the board, from 0 up to ``slots``.
        channel_fd, board_fd, listener_fds: open descriptors.
        title: of the process.
        began_at_s: ``time.monotonic()`` when the daemon began.
    """

    version: str
    supervisor_pid: int
    slot: int
    slots: int
    channel_fd: int
    board_fd: int
    listener_fds: tuple[int, ...]
    title: str
    began_at_s: float
