"""Counts what requests used, on the event loop, and has it written to the disk in batches by a thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping

import structlog
import trio

from . import batch as batches
from .batch import SECONDS_PER_HOUR, Batch, Totals, UsageCounts, UsageKey, merge, named, summed_up, totals_of
from .names import Names
from .rows import MAX_COUNT, signed
from .store import UsageFileError, UsageStore
from .usage_file import fault

# What a killed process loses: the requests of so long.
FLUSH_INTERVAL_S = 0.5
# While the file cannot be used the pauses double, up to this one.
MAX_RETRY_INTERVAL_S = 10.0
# A disk that takes longer is not waited for; the batch is still on its way, and asked after at the next flush.
MAX_WAIT_S = 3.0
# Without requests for so long, the file is closed: an idle daemon wakes nobody and holds nothing open.
CLOSE_AFTER_S = 5.0

log = structlog.get_logger()


class _Write:
    """One batch on its way to the disk, which ends when the disk wants to.

    Attributes:
        commits: of the store, before this one.
        tenants: that the file has, if they are wanted and could be read; in how many hours.
    """

    def __init__(self, batch: Batch, commits: int, *, wants_tenants: bool) -> None:
        self.batch = batch
        self.commits = commits
        self.tenants: Mapping[str, int] | None = None
        self.error: Exception | None = None
        self._wants_tenants = wants_tenants
        self._has_ended = False

    def run(self, store: UsageStore) -> None:
        """In a thread. Called again after it was not waited for, it has been done."""
        if self._has_ended:
            return
        try:
            # First: what this batch brings are no tenants that were seen before.
            if self._wants_tenants:
                with contextlib.suppress(UsageFileError):  # writing says what is wrong with it
                    self.tenants = store.tenants()
            store.add(self.batch)
        except Exception as error:
            self.error = error
        self._has_ended = True


class UsageLog:
    """What was used: counted at once, written soon after.

    Whatever is wrong with the file is said in the log, once for each reason, and concerns no request: what was counted
    is kept in memory, as much as there is room for, and written as soon as that works again.

    Attributes:
        problem: why what was counted is not written at present, one line; None: it is, or nothing was tried yet.

    Args:
        store: None: nothing is kept, and nothing is counted.
    """

    def __init__(self, store: UsageStore | None, unix_clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._unix_clock = unix_clock
        self._batch: Batch = {}
        self._has_some = trio.Event()  # of this batch
        self._most_keys = batches.MAX_BATCH_KEYS  # then the batch is summed up
        self._names = Names()
        self._knows_tenants = False
        self._write: _Write | None = None
        self._writing = trio.Lock()
        # One thread, however many ask; one that hangs is not joined by others.
        self._threads = trio.CapacityLimiter(1)
        self._reading_threads = trio.CapacityLimiter(1)
        self._pause_s = FLUSH_INTERVAL_S
        self.problem: str | None = None

    @property
    def is_kept(self) -> bool:
        """Whether what is counted is written anywhere."""
        return self._store is not None

    def add(
        self,
        tenant_id: str,
        origin: str,
        model: str,
        *,
        prompt_tokens: int = 0,
        cached_prompt_tokens: int = 0,
        completion_tokens: int = 0,
        cost_nano: int = 0,
        is_estimated: bool = False,
        requests: int = 1,
    ) -> None:
        """Count one request, or what is to be added to what was counted of it. Never waits.

        Tokens and costs may be negative: they take back what was counted. So one that goes on can be counted as it
        does (``requests=1`` once, then 0 with the differences), and an estimate be replaced: by the same call with
        everything negative, ``requests``, too, and another one with what is true.

        Args:
            cost_nano: in 1e-9 of the configured currency.
            is_estimated: the tokens are an estimate; so many requests are estimated ones.
            requests: 1, 0 or -1.
        """
        if self._store is None:
            return
        key = UsageKey(int(self._unix_clock()) // SECONDS_PER_HOUR, tenant_id, origin, model)
        counts = self._batch.get(key)
        if counts is None:
            counts = self._begin(key)
        counts.requests += requests
        if is_estimated:
            counts.estimated_requests += requests
        # Whatever an upstream says that it counted; the comparisons cost less than a call for each.
        counts.prompt_tokens += prompt_tokens if -MAX_COUNT <= prompt_tokens <= MAX_COUNT else signed(prompt_tokens)
        if cached_prompt_tokens:
            counts.cached_prompt_tokens += signed(cached_prompt_tokens)
        counts.completion_tokens += (
            completion_tokens if -MAX_COUNT <= completion_tokens <= MAX_COUNT else signed(completion_tokens)
        )
        counts.cost_nano += cost_nano if -MAX_COUNT <= cost_nano <= MAX_COUNT else signed(cost_nano)

    def keep_names(self, tenant_ids: Iterable[str]) -> None:
        """These tenants are counted by their names, whatever others think of; instead of those of the last call."""
        self._names.keep(tenant_ids)

    async def flush_forever(self) -> None:
        """Write batches until cancelled; then the last one, for which it takes a few seconds at most."""
        if self._store is None:
            return
        try:
            while True:
                with trio.move_on_after(CLOSE_AFTER_S):
                    await self._has_some.wait()
                if not self._has_some.is_set():
                    await self._close(self._store)
                    await self._has_some.wait()
                await trio.sleep(self._pause_s)
                await self.flush()
        finally:
            await self._end(self._store)

    async def flush(self) -> None:
        """Write what was counted so far; returns when it is written, or after MAX_WAIT_S, also when cancelled."""
        if self._store is None:
            return
        with trio.move_on_after(MAX_WAIT_S, shield=True) as waiting:
            async with self._writing:
                if self._write is not None:
                    await self._finish(self._store, self._write)
                if self._batch and self._write is None:
                    self._write = _Write(self._batch, self._store.commits, wants_tenants=not self._knows_tenants)
                    self._batch, self._has_some, self._most_keys = {}, trio.Event(), batches.MAX_BATCH_KEYS
                    await self._finish(self._store, self._write)
        if waiting.cancelled_caught:
            self._failed(f"the disk of {self._store.path} takes longer than {MAX_WAIT_S:g} s")

    async def totals(self, tenant_id: str, since_unix_s: int) -> Totals:
        """What a tenant has used from the hour of this time on, up to now: according to the file, which other
        processes write to, and to what is not in it yet. Reading waits for no writing.

        Raises:
            UsageFileError: the file cannot be read, or not within MAX_WAIT_S.
        """
        store = self._store
        if store is None:
            return Totals(0, 0)
        tenant_id, since_hour = named(tenant_id), since_unix_s // SECONDS_PER_HOUR
        with trio.move_on_after(MAX_WAIT_S):
            while True:
                try:
                    stored, commits = await trio.to_thread.run_sync(
                        store.totals, tenant_id, since_hour, abandon_on_cancel=True, limiter=self._reading_threads
                    )
                except RuntimeError as error:  # there is no thread for it
                    raise fault(store.path, str(error)) from error
                # What was written since it was read is neither in memory any more nor in what was read.
                if commits >= (self._write.commits if self._write is not None else store.commits):
                    return self._with_unwritten(stored, commits, tenant_id, since_hour)
        raise fault(store.path, f"its disk takes longer than {MAX_WAIT_S:g} s")

    def _begin(self, key: UsageKey) -> UsageCounts:
        """The counts of a key that this batch does not have, or not under this name."""
        key = UsageKey(key.hour, named(key.tenant_id), named(key.origin), named(key.model))
        key = self._names.key_of(key)
        self._has_some.set()
        counts = self._batch.get(key)
        if counts is None:
            self._make_room()
            counts = self._batch.setdefault(key, UsageCounts())
        return counts

    def _make_room(self) -> None:
        """In memory, where there is no more of it than this, however long the disk cannot be used."""
        if len(self._batch) >= self._most_keys:
            self._batch = summed_up(self._batch, self._names.is_known)
            self._most_keys = max(batches.MAX_BATCH_KEYS, 2 * len(self._batch))

    def _with_unwritten(self, stored: Totals, commits: int, tenant_id: str, since_hour: int) -> Totals:
        tokens, cost_nano = stored
        unwritten = [self._batch]
        if self._write is not None and commits == self._write.commits:
            unwritten.append(self._write.batch)
        for batch in unwritten:
            found = totals_of(batch, tenant_id, since_hour)
            tokens += found.tokens
            cost_nano += found.cost_nano
        return Totals(max(tokens, 0), max(cost_nano, 0))

    async def _finish(self, store: UsageStore, write: _Write) -> None:
        """Have it written, or see what came of it since; what could not be written is in the batch again."""
        try:
            # Behind one that hangs, this waits for the limiter.
            await trio.to_thread.run_sync(write.run, store, abandon_on_cancel=True, limiter=self._threads)
        except RuntimeError as error:  # of no write: there is no thread for it, and it is tried again
            self._failed(str(error))
            return
        self._write = None
        if write.tenants is not None:
            self._knows_tenants = True
            self._names.recall(write.tenants)
        if write.error is None:
            self._pause_s = FLUSH_INTERVAL_S
            if self.problem is not None:
                self.problem = None
                log.info("usage is written again", file=store.path)
        elif isinstance(write.error, UsageFileError):
            newer, self._batch = self._batch, write.batch
            merge(self._batch, newer)
            self._make_room()
            self._has_some.set()
            self._failed(str(write.error))
        else:
            # A mistake of ours, which would come again with the same batch: that is lost, and not those after it.
            log.error("internal error; usage lost", requests=_requests(write.batch), exc_info=write.error)

    def _failed(self, reason: str) -> None:
        self._pause_s = min(2 * self._pause_s, MAX_RETRY_INTERVAL_S)
        if reason != self.problem:
            self.problem = reason
            log.warning("usage is not written; it is kept in memory and tried again", reason=reason)

    async def _close(self, store: UsageStore) -> None:
        async with self._writing:
            try:
                await trio.to_thread.run_sync(store.close, abandon_on_cancel=True, limiter=self._threads)
            except (UsageFileError, RuntimeError) as error:  # of the file; or there is no thread for it
                self._failed(str(error))

    async def _end(self, store: UsageStore) -> None:
        await self.flush()
        lost = _requests(self._batch) + (_requests(self._write.batch) if self._write is not None else 0)
        if lost:
            log.warning("usage lost: it could not be written", requests=lost)
        if self._write is None:  # else the disk hangs
            with trio.move_on_after(MAX_WAIT_S, shield=True):
                await self._close(store)


def _requests(batch: Batch) -> int:
    return sum(counts.requests for counts in batch.values())
