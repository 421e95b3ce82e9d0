"""Runs the simulator on a TCP port, with Hypercorn's trio worker."""

import errno
import logging
import socket
from functools import partial
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from vastar_runtime.config.quoting import shown_address
from vastar_runtime.errors import StartupError

from . import accepting
from .accepting import NotedRequests, Place, Places
from .app import create_app
from .connection import STATE_KEY, Connection
from .exchange import Exchange
from .fault_injection import FaultInjection
from .http1_server import Http1Server
from .journal import Journal
from .origin_form import OriginForm
from .request_log import RequestLog
from .settings import SimulatorSettings

# Longer than the clients' pools keep an idle connection, so that it is the client who closes it: a server that closes
# first now and then does so under a request that is on its way.
KEEP_ALIVE_S = 75

_log = logging.getLogger(__name__)


async def serve(
    host: str,
    port: int,
    settings: SimulatorSettings,
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until it is cancelled; open streams then end at once.

    Args:
        host: a name or an address; of a name's several addresses the first is used, IPv4 before IPv6.
        port: 0 to 65535; 0 takes any free port.
        settings: of the application, and what goes wrong with it.
        task_status: is given the base URL, such as "http://127.0.0.1:43215", when connections are accepted.

    Raises:
        StartupError: the address cannot be listened on; there is nothing to answer with.
    """
    # Record and log are outermost, so that they show what came of a fault.
    faults = FaultInjection(create_app(settings), settings.fault, settings.seed)
    recorded = RequestLog(Exchange(Journal(faults, faults.forget)))
    # The two libraries write the same ASGI types differently, hence the ignored arguments.
    app = ASGIWrapper(NotedRequests(OriginForm(recorded)))  # type: ignore[arg-type]
    with await _listen(host, port) as listener:
        task_status.started(_url(listener))
        await accepting.accept(
            trio.SocketListener(listener),
            Places(accepting.max_connections()),
            partial(_converse, app, _server_config()),
        )


async def _converse(app: ASGIWrapper, config: Config, stream: trio.SocketStream, place: Place) -> None:
    """One connection, from its acceptance to its close.

    ``hypercorn.trio.serve`` was tried. Hypercorn shields its writes from cancellation, so with one client that does not
    read, it cannot be stopped; and whatever one connection raises ends them all. Both need a hold on the connection.
    """
    async with trio.open_nursery() as nursery:
        connection = Connection(stream, nursery.cancel_scope)
        place.close = connection.close
        nursery.start_soon(_close_when_cancelled, stream, place)
        try:
            state = ConnectionState({STATE_KEY: connection, accepting.STATE_KEY: place})
            await Http1Server(app, config, WorkerContext(None), state, stream)  # type: ignore[arg-type]
        except Exception:
            _log.exception("a connection of the simulator failed")
        finally:
            place.leave()
        nursery.cancel_scope.cancel()


async def _close_when_cancelled(stream: trio.SocketStream, place: Place) -> None:
    try:
        await place.close_unless_asked()
        await trio.sleep_forever()
    finally:
        stream.socket.close()  # a write that waits ends with ClosedResourceError, which Hypercorn expects


def _server_config() -> Config:
    config = Config()
    config.errorlog = _log
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_S
    # The journal shows names as they came, and passes them on in lower case.
    config.h11_pass_raw_headers = True
    return config


async def _listen(host: str, port: int) -> trio.socket.SocketType:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        cause = _lower(error.strerror) if isinstance(error, OSError) else "not a host name"
        raise StartupError(f"cannot listen on {host!r}: {cause}; choose another with --host") from error
    # A name such as localhost has addresses of both families, and most clients are told 127.0.0.1.
    family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    try:
        return await _bound(family, address)
    except OSError as error:
        option = "--host" if error.errno == errno.EADDRNOTAVAIL else "--port"
        raise StartupError(
            f"cannot listen on {shown_address(host, port)}: {_lower(error.strerror)}; choose another with {option}"
        ) from error


async def _bound(family: socket.AddressFamily, address: Any) -> trio.socket.SocketType:
    listener = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        # Takes over the port of an instance that has just ended, never that of a running one (socket(7)).
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await listener.bind(address)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _url(listener: trio.socket.SocketType) -> str:
    return "http://" + shown_address(*listener.getsockname()[:2])


def _lower(words: str | None) -> str:
    """A system's message, for the middle of a sentence."""
    return words[:1].lower() + words[1:] if words else "unknown error"
