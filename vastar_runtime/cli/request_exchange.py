"""The exchange of ``request``: the daemon is asked, and its answer written as it comes."""

import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

from connector_sdk.client import RuntimeClient
from connector_sdk.config import RuntimeConfig
from connector_sdk.errors import ConnectorException
from connector_sdk.http_payload import WaitLimits
from connector_sdk.models import HTTPRequest
from connector_sdk.streaming import StreamedResponse
from vastar_runtime.errors import StartupError

from .client_settings import reached
from .ending import tell
from .exit_codes import CommandFailed, ExitCode, exit_code_of
from .printing import printable
from .request_output import Output
from .request_report import Collected, Report, failure_of, received_lines, sent_lines

_MAX_LINE_CHARACTERS = 65_536
_PROMPT_TYPE = "text/event-stream"


class Asked(NamedTuple):
    """How the answer is wanted: the options of these names."""

    includes_head: bool
    fails_with_status: bool
    is_silent: bool
    is_verbose: bool
    as_json: bool


class Exchange:
    """One request, and what there is to be said of it, however it ends."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._response: StreamedResponse | None = None
        self._output: Output | None = None
        self._collected = Collected()
        self._began_at = time.perf_counter()
        self._first_byte_ms: float | None = None

    def run(self, request: HTTPRequest, settings: RuntimeConfig, output: Output, *, doubt: str = "") -> None:
        """Make the request, write the answer.

        Args:
            doubt: why the daemon may be elsewhere than ``settings`` say; "": they are certain.

        Raises:
            CommandFailed: no daemon could be asked, an output cannot be written, or the status fails the command.
            ConnectorException: there is no answer, or it broke off; what came of it is written.
        """
        self._output = output
        self._began_at = time.perf_counter()  # reading a body may have taken long
        output.ends_at = time.monotonic() + settings.timeout_ms / 1000
        try:
            with ExitStack() as stack:
                stack.enter_context(output)
                client = RuntimeClient(settings)
                stack.callback(client.close)
                self._note(
                    f"* through the daemon at {settings.endpoint}, as tenant {settings.tenant_id!r}, "
                    f"within {settings.timeout_ms / 1000:g} s"
                )
                self._notes(sent_lines(request))
                self._response = self._open(client, request, settings, doubt)
                stack.callback(self._response.close)
                self._answer(self._response, output)
        finally:
            self._note(f"* {output.body_bytes + self._collected.size:,} bytes in {self._elapsed_ms():.1f} ms")

    def report(self, failure: StartupError | ConnectorException | None) -> Report:
        """All of it, for ``--json``."""
        response, output = self._response, self._output
        told = failure.attempts if isinstance(failure, ConnectorException) else 0
        goes_to_file = output is not None and output.path is not None
        text, base64_text = (None, None) if goes_to_file or response is None else self._collected.text()
        return Report(
            exit_code=ExitCode.OK if failure is None else exit_code_of(failure),
            status=None if response is None else response.status_code,
            headers={} if response is None else response.headers.joined(),
            body=text,
            body_base64=base64_text,
            body_bytes=self._collected.size if output is None else output.body_bytes + self._collected.size,
            output=output.path if output is not None and output.is_in_file else None,
            first_byte_ms=self._first_byte_ms,
            duration_ms=self._elapsed_ms(),
            attempts=told if response is None else max(told, response.attempts),
            error=None if failure is None else failure_of(failure),
        )

    def _open(
        self, client: RuntimeClient, request: HTTPRequest, settings: RuntimeConfig, doubt: str
    ) -> StreamedResponse:
        # The time for all of it is the time for the daemon, too: one that is stopped takes the connection, and no more.
        limits = WaitLimits(connect_ms=settings.timeout_ms)
        return reached(lambda: client.open_stream(request, limits), settings, doubt)

    def _answer(self, response: StreamedResponse, output: Output) -> None:
        self._first_byte_ms = self._elapsed_ms()
        self._notes(received_lines(response.status_code, response.headers))
        self._note(f"* head after {self._first_byte_ms:.1f} ms; attempts: {response.attempts or 'not told'}")
        if self._asked.includes_head:
            output.head(response.status_code, response.headers.multi_items())
        has_failed = self._asked.fails_with_status and response.status_code >= 400
        if self._asked.as_json and output.path is None:
            for piece in response.iter_bytes():
                self._collected.body(piece)
        elif not has_failed:
            self._write_body(response, output)
        if has_failed:
            raise CommandFailed(ExitCode.HTTP_ERROR, f"the upstream answered with status {response.status_code}")

    def _write_body(self, response: StreamedResponse, output: Output) -> None:
        output.begin()
        if response.headers.get("content-type", "").lower().startswith(_PROMPT_TYPE):
            output.is_prompt = True
        try:
            for piece in response.iter_bytes():
                output.body(piece)
        except ConnectorException as error:
            output.flush()
            where = "the output has" if output.path is None else f"{output.path} keeps"
            raise ConnectorException(
                f"{error.message}; {where} the {output.body_bytes} bytes of the body that came before",
                error.error_class,
                error.request_id,
                retry_after_ms=error.retry_after_ms,
                attempts=error.attempts,
            ) from error

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self._began_at) * 1000, 3)

    def _notes(self, lines: Iterable[str]) -> None:
        for line in lines if self._asked.is_verbose else ():
            tell(printable(line, _MAX_LINE_CHARACTERS))

    def _note(self, line: str) -> None:
        self._notes([line])
