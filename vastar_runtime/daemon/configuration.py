"""The settings in use, and reading them again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable

import structlog
import trio

from connector_sdk.wire import ErrorClass
from vastar_runtime.config import Examined, Policies, Settings, needs_restart, reloaded
from vastar_runtime.connectors.base import Reloaded
from vastar_runtime.errors import RequestError

# A file of a mebibyte may hold more of them than an answer may.
MAX_TOLD_MISTAKES = 100

log = structlog.get_logger()


class Configuration:
    """What the daemon is set to.

    Args:
        examine: reads the settings again; called in a thread.
        file: where the settings come from, absolute; None: there is none, and the defaults hold.
        apply: has other settings used from the next request on; returns when they are.

    Attributes:
        read_at_unix_s: when they were read, at the start or at the last reload that changed anything.
        refused: the first mistake that the last reload found, for which it changed nothing; None: it found none.
    """

    def __init__(
        self,
        settings: Settings,
        examine: Callable[[], Examined],
        file: str | None,
        apply: Callable[[Settings, Policies], Awaitable[None]],
    ) -> None:
        self.settings = settings
        self.file = file
        self.read_at_unix_s = time.time()
        self.refused: str | None = None
        self._examine = examine
        self._apply = apply
        self._reloading = trio.Lock()

    async def reload(self, background: trio.Nursery) -> Reloaded:
        """Read the settings again, all of them, and use them from the next request on if they are valid.

        Args:
            background: it is done there, and logged, even if whoever asked for it has gone.

        Raises:
            RequestError: Permanent; a mistake of ours, which is in the log.
        """
        reloaded: list[Reloaded] = []
        ended = trio.Event()

        async def run() -> None:
            try:
                reloaded.append(await self._reload())
            except Exception:
                # A mistake of ours: nothing has changed, and nobody's request is to suffer for it.
                log.exception("internal error; configuration not reloaded")
            finally:
                ended.set()

        background.start_soon(run)
        await ended.wait()
        if not reloaded:
            raise RequestError(ErrorClass.PERMANENT, "internal error of the runtime; its log has the details")
        return reloaded[0]

    async def reload_on_signal(self, background: trio.Nursery) -> None:
        """As ``reload``; nobody asks what came of it, and it is in the log."""
        with contextlib.suppress(RequestError):
            await self.reload(background)

    async def _reload(self) -> Reloaded:
        async with self._reloading:  # the file that was read last is the one that holds
            # The file's disk may hang; that must not keep the daemon from ending.
            examined, policies = await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)
            mistakes = tuple(mistake.text for mistake in examined.mistakes[:MAX_TOLD_MISTAKES])
            later: tuple[str, ...] = ()
            self.refused = mistakes[0] if mistakes else None
            if mistakes:
                count = len(examined.mistakes)
                if count > MAX_TOLD_MISTAKES:
                    mistakes += (f"{count - MAX_TOLD_MISTAKES} more mistakes: vastar-runtime config check tells all",)
                log.error("configuration not reloaded", file=examined.file, mistakes=count, error=mistakes[0])
            else:
                later = tuple(needs_restart(self.settings, examined.settings))
                self.settings = reloaded(self.settings, examined.settings)
                self.file, self.read_at_unix_s = examined.file, time.time()
                await self._apply(self.settings, policies)
                log.info(
                    "configuration reloaded",
                    file=examined.file,
                    settings=examined.settings_in_file,
                    scopes=len(self.settings.scopes),
                    **({"needs_restart": ",".join(later)} if later else {}),
                )
            return Reloaded(
                file=examined.file,
                mistakes=mistakes,
                settings=examined.settings_in_file,
                scopes=len(self.settings.scopes),
                needs_restart=later,
            )

    def _read(self) -> tuple[Examined, Policies]:
        examined = self._examine()
        return examined, Policies(examined.settings)
