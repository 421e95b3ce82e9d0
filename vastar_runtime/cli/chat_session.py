"""The conversation of ``chat``, from its first line to its last."""

import re
import signal
from collections.abc import AsyncIterator, Callable
from typing import TextIO

import trio

from connector_sdk.config import RuntimeConfig
from connector_sdk.errors import ConnectorException
from connector_sdk.openai import AsyncConversation, AsyncOpenAIConnector, UsageTracker

from .chat_commands import ChatCommands, Said, kind_of, question_of
from .chat_input import Questions
from .client_settings import not_a_daemon
from .ending import say, tell
from .exit_codes import CommandFailed, ExitCode, exit_code_of

# Of what others wrote: control characters but the line's end and the tab, what turns the direction of text around,
# line ends that some terminals know and others do not, and halves of characters.
_DRIVING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\u2028\u2029]"
)
_PASSWORD = re.compile(r"//[^/]*@")


class ChatSession:
    """See the module.

    Each answer has an event loop of its own, in which Ctrl-C cancels the answer: an exception, thrown wherever the
    program is just then, could leave the conversation half changed.
    """

    def __init__(
        self,
        conversation: AsyncConversation,
        connector: AsyncOpenAIConnector,
        tracker: UsageTracker,
        questions: Questions,
        screen: TextIO,
        daemon: RuntimeConfig,
    ) -> None:
        self._conversation = conversation
        self._connector = connector
        self._tracker = tracker
        self._questions = questions
        self._screen = screen
        self._daemon = daemon
        self._commands = ChatCommands(conversation, tracker, connector.model)
        self._exit_code = ExitCode.OK
        self._is_over = False
        self._was_interrupted = False
        self._held = ""

    def run(self) -> ExitCode:
        """Talk until there is nothing more to say; the exit code of the command.

        Raises:
            BrokenPipeError: nobody reads what is written.
        """
        if self._questions.is_interactive:
            url = _PASSWORD.sub("//", self._connector.base_url)
            self._line(f"{self._commands.model} at {url}; /help lists commands")
        while not self._is_over:
            try:
                self._next()
            except KeyboardInterrupt:
                self._interrupted()
        report = self._tracker.report()
        if report:
            tell(report)
        return ExitCode.OK if self._questions.is_interactive else self._exit_code

    def _next(self) -> None:
        """One line, and what it leads to."""
        try:
            line = self._questions.next_line()
            self._was_interrupted = False
            if line is None:
                self._is_over = True
                if self._questions.is_interactive:
                    self._line("")
                return
            match kind_of(line):
                case Said.END:
                    self._is_over = True
                case Said.COMMAND:
                    self._line(self._commands.run(line))
                case Said.QUESTION:
                    self._answer(question_of(line))
        except (ConnectorException, CommandFailed) as error:
            failure = not_a_daemon(error, self._daemon) if isinstance(error, ConnectorException) else None
            say(str(failure or error))
            self._failed(exit_code_of(failure or error))

    def _answer(self, question: str) -> None:
        answer = _Answer(self._conversation, question, self._write)
        try:
            trio.run(answer.run)
        finally:
            if answer.has_text or answer.error is None:
                self._line("")
        if answer.was_interrupted:
            self._was_cancelled()
        elif answer.error is not None:
            raise answer.error

    def _was_cancelled(self) -> None:
        if self._questions.is_interactive:
            self._line("(the answer was cancelled)")
        else:
            self._failed(ExitCode.INTERRUPTED)
            self._is_over = True

    def _interrupted(self) -> None:
        """Ctrl-C while nothing was answered."""
        if not self._questions.is_interactive:
            self._failed(ExitCode.INTERRUPTED)
            self._is_over = True
        elif self._was_interrupted:
            self._line("")
            self._is_over = True
        else:
            self._was_interrupted = True
            self._line("\n(once more, or Ctrl-D, ends)")

    def _failed(self, exit_code: ExitCode) -> None:
        if self._exit_code is ExitCode.OK:
            self._exit_code = exit_code

    def _line(self, text: str) -> None:
        self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        if self._screen.isatty():  # what others wrote must not drive it
            text = self._held + text
            self._held = "\r" if text.endswith("\r") else ""  # half of a line's end, perhaps
            text = text.removesuffix("\r").replace("\r\n", "\n")
            text = _DRIVING.sub("\N{REPLACEMENT CHARACTER}", text)
        self._screen.write(text)
        self._screen.flush()


class _Answer:
    """One answer, written as it comes.

    Attributes:
        has_text: something of it came.
        error: why there is none, or no more of it.
        was_interrupted: by Ctrl-C.
    """

    def __init__(self, conversation: AsyncConversation, question: str, write: Callable[[str], None]) -> None:
        self.has_text = False
        self.was_interrupted = False
        self.error: ConnectorException | OSError | None = None
        self._conversation = conversation
        self._question = question
        self._write = write

    async def run(self) -> None:
        """Ask, and write. What goes wrong is in ``error``: raised here, it would come out of the nursery in a group."""
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_when_interrupted, signals, nursery.cancel_scope)
                try:
                    async with self._conversation.ask(self._question) as texts:
                        async for text in texts:
                            self.has_text = True
                            self._write(text)
                except (ConnectorException, OSError) as error:
                    self.error = error
                nursery.cancel_scope.cancel()

    async def _cancel_when_interrupted(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for _ in signals:
            self.was_interrupted = True
            scope.cancel()
