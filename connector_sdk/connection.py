"""One blocking connection to the daemon: open it, run one exchange at a time, see whether it is still good."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import time

from .config import RuntimeConfig
from .errors import ConnectorException
from .wire import ErrorClass, ExecuteResponse, Frame, FrameDecoder, RemoteProtocolError, decode_message

# The daemon ends a request at its deadline by itself; its answer then has to get here from a loaded machine.
ANSWER_GRACE_MS = 5_000

# A daemon on this machine accepts at once; one that takes longer is stuck.
CONNECT_TIMEOUT_MS = 10_000

_RECEIVE_BYTES = 256 * 1024


class Connection:
    """A connection to the daemon, used by one call at a time.

    Raises:
        ConnectorException: TRANSIENT when no daemon is there, TIMEOUT when it accepts nobody, PERMANENT when it
            may not be reached.
    """

    def __init__(self, config: RuntimeConfig, timeout_ms: int) -> None:
        self._endpoint = config.endpoint
        self._pid = os.getpid()
        self._decoder = FrameDecoder()
        timeout_s = min(timeout_ms, CONNECT_TIMEOUT_MS) / 1000
        try:
            self._socket = _connect_tcp(config, timeout_s) if config.use_tcp else _connect_unix(config, timeout_s)
        except PermissionError as error:
            raise ConnectorException(_denied(config), ErrorClass.PERMANENT) from error
        except (TimeoutError, BlockingIOError) as error:
            raise ConnectorException(
                f"the daemon at {self._endpoint} accepted no connection within {timeout_s:g} s; "
                "see whether it is stuck: `vastar-runtime status`",
                ErrorClass.TIMEOUT,
            ) from error
        except OSError as error:
            # A daemon that runs already may be without TCP; then only a restart gives it that.
            tcp = "; if it runs without TCP: `VASTAR_USE_TCP=true vastar-runtime restart`" if config.use_tcp else ""
            raise ConnectorException(
                f"no daemon answers at {self._endpoint} ({error.strerror or error}); "
                f"start it with `vastar-runtime start`{tcp}",
                ErrorClass.TRANSIENT,
            ) from error

    def exchange(self, frame: bytes, request_id: int, timeout_ms: int) -> ExecuteResponse:
        """Send a request's frame and wait for its answer.

        After any exception the connection is of no more use: close it.

        Raises:
            ConnectorException: TRANSIENT when the connection is lost, TIMEOUT when no answer comes in
                ``timeout_ms`` and the grace period, PERMANENT when the answer breaks the protocol.
        """
        deadline = time.monotonic() + (timeout_ms + ANSWER_GRACE_MS) / 1000
        try:
            self._socket.settimeout(deadline - time.monotonic())
            self._socket.sendall(frame)
            answer = decode_message(*self._receive_frame(deadline))
        except TimeoutError as error:
            raise ConnectorException(
                f"the daemon at {self._endpoint} did not answer within {timeout_ms + ANSWER_GRACE_MS} ms "
                f"(the request's timeout of {timeout_ms} ms and {ANSWER_GRACE_MS} ms of grace)",
                ErrorClass.TIMEOUT,
                request_id,
            ) from error
        except (OSError, EOFError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise ConnectorException(
                f"lost the connection to the daemon at {self._endpoint}: {reason or error}",
                ErrorClass.TRANSIENT,
                request_id,
            ) from error
        except RemoteProtocolError as error:
            raise self._protocol_broken(str(error), request_id) from error
        if not isinstance(answer, ExecuteResponse):
            raise self._protocol_broken(f"{type(answer).__name__} in place of ExecuteResponse", request_id)
        if answer.request_id == 0 and answer.error_class is not ErrorClass.SUCCESS:
            # protocol.md part 1: how the daemon answers a frame that it could not read.
            message = f"the daemon could not read the request: {answer.error_message or 'no reason given'}"
            raise ConnectorException(message, answer.error_class, request_id)
        if answer.request_id != request_id:
            raise self._protocol_broken(
                f"an answer to request {answer.request_id} where request {request_id} was asked", request_id
            )
        return answer

    def is_reusable(self) -> bool:
        """False when the daemon has closed the connection, or has sent what nobody asked for."""
        if self._decoder.is_mid_frame:
            return False
        try:
            self._socket.setblocking(False)
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close the connection; the daemon then cancels what is in flight on it."""
        if self._pid == os.getpid():
            # A forked child may hold the same socket open: only this ends it for the daemon. In such a child,
            # it would end the parent's connection.
            with contextlib.suppress(OSError):  # the daemon was first
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _receive_frame(self, deadline: float) -> Frame:
        while (frame := self._decoder.next_frame()) is None:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining_s)
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                when = "in the middle of its answer" if self._decoder.is_mid_frame else "before it answered"
                raise EOFError(f"it was closed {when}")
            self._decoder.receive_data(data)
        return frame

    def _protocol_broken(self, what: str, request_id: int) -> ConnectorException:
        return ConnectorException(
            f"what answers at {self._endpoint} broke the protocol: {what}; see whether it is the daemon",
            ErrorClass.PERMANENT,
            request_id,
        )


def _connect_unix(config: RuntimeConfig, timeout_s: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Not settimeout(): it makes the socket non-blocking, and a non-blocking connect to a Unix socket whose
        # queue is full fails at once with EAGAIN, where a blocking one waits its turn.
        seconds, fraction = divmod(timeout_s, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(seconds), int(fraction * 1e6)))
        sock.connect(config.socket_path)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect_tcp(config: RuntimeConfig, timeout_s: float) -> socket.socket:
    sock = socket.create_connection((config.tcp_host, config.tcp_port), timeout_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _denied(config: RuntimeConfig) -> str:
    if config.use_tcp:
        return f"the system does not permit a connection to {config.endpoint}"
    try:
        status = os.stat(config.socket_path)
    except OSError as error:
        return f"no permission to reach {config.endpoint}: {error.strerror}; see the modes of its directories"
    return (
        f"no permission to use {config.endpoint}: its mode is {stat.S_IMODE(status.st_mode):04o} and its owner "
        f"has uid {status.st_uid}; start the daemon with another --socket-mode or --socket-group, or run as its owner"
    )
