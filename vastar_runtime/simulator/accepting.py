"""Taking clients' connections: no more than there are descriptors for, and none for a client that says nothing."""

import errno
import logging
import resource
import select
from collections.abc import Awaitable, Callable
from functools import partial

import trio
from starlette.types import ASGIApp, Receive, Scope, Send

# Where serve.py puts the place for each request of its connection.
STATE_KEY = "place"

# A client has so long for the head of its first request. One that is kept alive then has as long as the server keeps
# it.
HEAD_TIMEOUT_S = 10

# A new connection does not give way to another for so long: its request is on its way, as clients send it at once.
FRESH_S = 1.0
# Where none can give way yet, it is looked again after this time.
_LOOK_PAUSE_S = 0.05

# Each takes some ten kB, more than that while it is answered.
MAX_CONNECTIONS = 4096
# A connection is one descriptor, and to see a client leave is another.
_DESCRIPTORS_PER_CONNECTION = 2
# For the listener, the event loop, the log, the files of --responses, and a connection that waits for its place.
_OTHER_DESCRIPTORS = 64

# No descriptor is left: of this process, of the system, or of memory for one.
_NO_CAPACITY = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_NO_CAPACITY_PAUSE_S = 0.1

_log = logging.getLogger(__name__)


def max_connections() -> int:
    """How many the limit of open files (RLIMIT_NOFILE) allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(1, (soft - _OTHER_DESCRIPTORS) // _DESCRIPTORS_PER_CONNECTION))


class Place:
    """One connection's, from its acceptance until it is left."""

    def __init__(self, places: "Places", close: Callable[[], None], has_unread: Callable[[], bool]) -> None:
        self._places = places
        self._taken_at = trio.current_time()
        self._has_unread = has_unread
        self._has_asked = False
        self._requests = 0
        self.close = close

    @property
    def may_give_way(self) -> bool:
        """Of an idle one: whether no request seems to be on its way, or there already and not read yet."""
        is_fresh = not self._has_asked and trio.current_time() < self._taken_at + FRESH_S
        return not is_fresh and not self._has_unread()

    def begin_request(self) -> None:
        """The connection is in use. A request may begin before the one before it has ended here."""
        self._has_asked = True
        self._requests += 1
        self._places.idle.pop(self, None)

    def end_request(self) -> None:
        """It is kept for the next request, unless that has begun."""
        self._requests -= 1
        if not self._requests:
            self._places.set_idle(self)

    async def close_unless_asked(self) -> None:
        """Close the connection when no request has begun after HEAD_TIMEOUT_S."""
        await trio.sleep(HEAD_TIMEOUT_S)
        if not self._has_asked:
            self.close()

    def leave(self) -> None:
        """The connection is over."""
        self._places.free(self)


class Places:
    """The connections of one simulator.

    Attributes:
        idle: those without a request, the one that has been so for longest first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken: set[Place] = set()
        self.idle: dict[Place, None] = {}
        self._changed = trio.Event()
        self._has_warned = False

    async def make_room(self) -> None:
        """Returns when there is room for one more; where there is none, the connection closes that is idle longest.

        Closed under a request that is on its way in spite of that, it is one that every client tries again.
        """
        while len(self.taken) >= self._most:
            if self.close_idle():
                continue
            if self.idle:
                with trio.move_on_after(_LOOK_PAUSE_S):
                    await self._changed.wait()
                continue
            if not self._has_warned:
                _log.warning("%d connections are busy, as many as there can be; others wait", len(self.taken))
            self._has_warned = True
            await self._changed.wait()

    def close_idle(self) -> bool:
        """Close the connection that is idle longest, of those that may give way; whether there was one."""
        place = next((place for place in self.idle if place.may_give_way), None)
        if place is None:
            return False
        self.free(place)
        place.close()
        return True

    def take(self, close: Callable[[], None], has_unread: Callable[[], bool]) -> Place:
        """A place for a connection, which is idle.

        Args:
            close: closes the connection.
            has_unread: whether something came on it that is not read yet.
        """
        place = Place(self, close, has_unread)
        self.taken.add(place)
        self.idle[place] = None
        return place

    def free(self, place: Place) -> None:
        """The place is another one's; it may be so already."""
        self.taken.discard(place)
        self.idle.pop(place, None)
        self._note_change()

    def set_idle(self, place: Place) -> None:
        """No request runs on the connection, which may be closed already."""
        if place in self.taken:
            self.idle[place] = None
            self._note_change()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def accept(
    listener: trio.abc.Listener[trio.SocketStream],
    places: Places,
    converse: Callable[[trio.SocketStream, Place], Awaitable[None]],
) -> None:
    """Takes connections until it is cancelled, and converses with each in a task of its own, which leaves the place.

    ``trio.serve_listeners`` was tried. It takes connections without end, and where no descriptor is left for another
    one it writes a traceback every tenth of a second.
    """
    is_short = False
    async with trio.open_nursery() as nursery:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _NO_CAPACITY:
                    raise
                if not is_short:
                    _log.warning("no connection can be accepted (%s), it is tried again and again", error.strerror)
                is_short = True
                places.close_idle()
                await trio.sleep(_NO_CAPACITY_PAUSE_S)
                continue
            is_short = False
            try:
                await places.make_room()
            except BaseException:
                stream.socket.close()
                raise
            place = places.take(stream.socket.close, partial(_has_unread, stream.socket))
            nursery.start_soon(converse, stream, place)


def _has_unread(connection: trio.socket.SocketType) -> bool:
    if connection.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class NotedRequests:
    """ASGI middleware: tells the place of each request's connection when it is in use."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place: Place = scope["state"][STATE_KEY]
        place.begin_request()
        try:
            await self._app(scope, receive, send)
        finally:
            place.end_request()
