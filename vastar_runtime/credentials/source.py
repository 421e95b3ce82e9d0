"""Where a credential's secret comes from, and the last one that came. Variables are the simple case."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

import structlog
import trio

from .errors import CredentialError, Unusable
from .secret import Secret, secret_in

Kind = Literal["env", "file", "command"]

log = structlog.get_logger()


class Source:
    """What the sources have in common.

    Args:
        name: the credential's.
        kind: what the file calls it.

    Attributes:
        problem: why the last attempt to have a secret failed; None: it did not, or is the first and under way.
        read_at_unix_s: when the last one came; None: none has.
    """

    def __init__(self, name: str, kind: Kind) -> None:
        self.name = name
        self.kind = kind
        self.problem: str | None = None
        self.read_at_unix_s: float | None = None
        self._secret: Secret | None = None
        self._changed = trio.Event()
        self._logged: tuple[bool, str | None] | None = None

    def __repr__(self) -> str:
        return f"<{self.kind} of credential {self.name!r}>"

    def current(self) -> Secret | None:
        """The secret, if there is one that may be used."""
        return self._secret

    async def ready(self) -> Secret:
        """The secret; waits for the end of the first attempt.

        Raises:
            CredentialError: there is none.
        """
        while (secret := self.current()) is None:
            if self.problem is not None:
                raise CredentialError(self.name, self.problem)
            await self._changed.wait()
        return secret

    def _has(self, secret: Secret) -> None:
        if self._secret is not None and secret != self._secret:
            self._logged = None  # another one: whoever has rotated it wants to know
        self._secret, self.problem = secret, None
        self.read_at_unix_s = time.time()
        self._tell()

    def _lacks(self, problem: str) -> None:
        self.problem = problem
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        is_usable = self.current() is not None
        if self._logged == (is_usable, self.problem):
            return
        self._logged = (is_usable, self.problem)
        if self.problem is None:
            log.info("credential ready", name=self.name, source=self.kind)
        elif is_usable:
            log.warning("credential not read again", name=self.name, source=self.kind, reason=self.problem)
        else:
            log.warning("credential cannot be used", name=self.name, source=self.kind, reason=self.problem)


class VariableSource(Source):
    """A variable of the environment, which does not change while the daemon runs."""

    def __init__(self, name: str, variable: str, environ: Mapping[str, str]) -> None:
        super().__init__(name, "env")
        value = environ.get(variable)
        if value is None:
            self._lacks(f"the variable {variable} is not set")
            return
        try:
            # Any text can be encoded so, and an error of encoding would quote it.
            self._has(secret_in(value.encode("utf-8", "surrogatepass")))
        except Unusable as error:
            self._lacks(f"the variable {variable} {error}")
