"""All credentials: configured, kept current, looked up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import trio

from vastar_runtime.config import Credential

from .command_source import CommandSource
from .file_looks import FileLooks
from .file_source import SETTLED_S, FileSource
from .injection import Injection
from .rules import Rules
from .source import Kind, Source, VariableSource

FILE_LOOK_S = 0.25
# A file whose disk takes longer than this is late, and those after it are so by as much, once.
FILE_TIMEOUT_S = 1.0
# What a start or a reload waits for files.
FIRST_READ_S = 1.0
# At once: a start with hundreds of commands must not be one with hundreds of processes.
MAX_COMMANDS = 16


class CredentialStatistics(msgspec.Struct, frozen=True):
    """A snapshot of one credential.

    Attributes:
        is_usable: requests get it.
        problem: why it could not be had the last time; with ``is_usable``, an older one is used. None without that: it
            is being fetched.
        read_at_unix_s: when the one that was had last was; None: never.
    """

    name: str
    source: Kind
    is_usable: bool
    problem: str | None
    read_at_unix_s: float | None


class _Place(NamedTuple):
    """What a source is kept for, whatever else a reload changes."""

    name: str
    env: str | None
    file: str | None
    command: tuple[str, ...] | None


class Credentials:
    """All of them, and where their values come from. Without ``run``, no file is read again, and no command is called.

    Args:
        environ: the variables that secrets may be in, and that commands get.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._sources: dict[_Place, Source] = {}
        self._rules: Rules | None = None  # without credentials
        self._looks = FileLooks()
        self._running_commands = trio.CapacityLimiter(MAX_COMMANDS)
        self._configuring = trio.Lock()
        self._configured = trio.Event()
        self._nursery: trio.Nursery | None = None  # while ``run`` runs

    def __repr__(self) -> str:
        return f"<Credentials: {len(self._sources)}>"

    def for_request(self, tenant_id: str, origin: str) -> tuple[Injection, ...]:
        """Those that apply, at most one for each header.

        Args:
            tenant_id: "" for a client that names none.
            origin: as policies go by: ``Origin.without_root``.
        """
        if self._rules is None:
            return ()
        return self._rules.for_request(tenant_id, origin)

    def statistics(self) -> tuple[CredentialStatistics, ...]:
        """In the order of the file; only in a task."""
        return tuple(
            CredentialStatistics(
                name=source.name,
                source=source.kind,
                is_usable=source.current() is not None,
                problem=source.problem,
                read_at_unix_s=source.read_at_unix_s,
            )
            for source in self._sources.values()
        )

    async def configure(self, credentials: Sequence[Credential]) -> None:
        """Use these from the next request on. Those whose source is the same keep their value; of the others, files are
        read for at most FIRST_READ_S, and commands are called in the background.

        Args:
            credentials: valid ones, with names that differ, in the order of the file.
        """
        async with self._configuring:
            sources: dict[_Place, Source] = {}
            injections = []
            for credential in credentials:
                place = _Place(credential.name, credential.env, credential.file, credential.command)
                source = self._sources.get(place) or self._source(place, credential.ttl_ms)
                if isinstance(source, CommandSource):
                    source.use_for(credential.ttl_ms)
                sources[place] = source
                injections.append((credential, Injection(credential, source)))
            new = [source for place, source in sources.items() if place not in self._sources]
            await self._read_first([source for source in new if isinstance(source, FileSource)])
            old, self._sources = self._sources, sources
            self._rules = Rules(injections) if injections else None
            for place, source in old.items():
                if place not in sources and isinstance(source, CommandSource):
                    source.retire()
            self._start(new)
            self._configured.set()

    async def run(self) -> None:
        """Keep them current, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                self._start(self._sources.values())
                await self._watch_files()
            finally:
                self._nursery = None

    def _source(self, place: _Place, ttl_ms: int) -> Source:
        if place.env is not None:
            return VariableSource(place.name, place.env, self._environ)
        if place.file is not None:
            return FileSource(place.name, place.file)
        assert place.command is not None
        return CommandSource(place.name, place.command, ttl_ms, self._environ)

    def _start(self, sources: Iterable[Source]) -> None:
        if self._nursery is None:
            return
        for source in sources:
            if isinstance(source, CommandSource):
                self._nursery.start_soon(source.keep, self._running_commands)

    async def _read_first(self, files: list[FileSource]) -> None:
        deadline = trio.current_time() + FIRST_READ_S
        with trio.move_on_at(deadline):
            while files:
                # Half of what is left: if one hangs, there is time for the others.
                await self._looks.look_at(files, (deadline - trio.current_time()) / 2)
                files = [file for file in files if file.is_unread]
                if not files or trio.current_time() + SETTLED_S >= deadline:
                    break
                await trio.sleep(SETTLED_S)
        for file in files:
            if file.is_unread:
                file.failed("has not been read yet")

    async def _watch_files(self) -> None:
        while True:
            files = [source for source in self._sources.values() if isinstance(source, FileSource)]
            if not files:
                self._configured = trio.Event()
                await self._configured.wait()
                continue
            await trio.sleep(FILE_LOOK_S)
            await self._looks.look_at(files, FILE_TIMEOUT_S)
