"""``vastar-runtime start``, ``stop`` and ``restart``: the daemon in the background."""

import os
import shlex
import signal
from collections.abc import Callable
from typing import NamedTuple

import click
import msgspec

from vastar_runtime import config
from vastar_runtime.config.permissions import user_name
from vastar_runtime.config.quoting import shown_address, shown_path
from vastar_runtime.config.state import forgetful_budgets
from vastar_runtime.errors import StartupError

from .background import end, open_log, spawn, tail
from .options import config_option, json_option, listen_options, log_option, socket_option
from .printing import json_line
from .probe import Found, State, command, obstacle, probe, remedy
from .process import Process, is_runtime
from .restarting import file_to_keep
from .run import READY
from .socket_file import ANOTHER_PATH

# The daemon gives requests in flight 30 s; workers that hang it waits for a little longer, and then it ends by force.
STOP_TIMEOUT_S = 45.0


class _Started(msgspec.Struct, frozen=True, kw_only=True):
    """What ``start --json`` prints.

    Attributes:
        started: False: it ran already.
        pid: None: it cannot be seen from here.
        tcp, config_file, log: of a daemon that was started; None: it has none.
        notes: what may be wrong with what was wanted.
    """

    started: bool
    pid: int | None
    socket: str
    tcp: str | None = None
    config_file: str | None = None
    log: str | None = None
    notes: list[str] = []


class _Restarted(_Started, frozen=True, kw_only=True):
    """What ``restart --json`` prints: of the new daemon, and the pid of the old one; None: none ran."""

    stopped_pid: int | None


class _Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """What ``stop --json`` prints; the pid is None: none ran."""

    stopped_pid: int | None
    socket: str


@click.command(
    epilog="Example: vastar-runtime start --socket /run/app/vastar.sock --log-file /var/log/vastar.log",
)
@listen_options
@log_option
@json_option
def start(
    config_path: str | None,
    socket_path: str | None,
    socket_mode: str | None,
    socket_group: str | None,
    workers: str | None,
    insecure_bind: bool,
    log_path: str,
    as_json: bool,
) -> None:
    """Start the daemon in the background; returns when it answers."""
    wanted = _Wanted(config_path, socket_path, socket_mode, socket_group, workers, insecure_bind)
    started = _start(wanted, wanted.examined(), log_path)
    if as_json:
        click.echo(json_line(started))
    else:
        _print(started)


@click.command(epilog="Example: vastar-runtime stop --socket /run/app/vastar.sock")
@config_option
@socket_option
@json_option
def stop(config_path: str | None, socket_path: str | None, as_json: bool) -> None:
    """Stop the daemon; returns when it has ended.

    Requests in flight finish first (30 s at most).
    """
    path = config.load_socket_path(config_path=config_path, socket_path=socket_path)
    ended = _stop(path, _say_nothing if as_json else click.echo)
    if as_json:
        click.echo(json_line(_Stopped(stopped_pid=_pid(ended), socket=path)))


@click.command(epilog="Example: vastar-runtime restart --log-file /var/log/vastar.log")
@listen_options
@log_option
@json_option
def restart(
    config_path: str | None,
    socket_path: str | None,
    socket_mode: str | None,
    socket_group: str | None,
    workers: str | None,
    insecure_bind: bool,
    log_path: str,
    as_json: bool,
) -> None:
    """Stop the daemon, if it runs, and start it.

    Without --config and VASTAR_CONFIG it keeps the file that it runs with. A daemon that does not tell which, since it
    hangs or is another user's, is not stopped then.
    """
    wanted = _Wanted(config_path, socket_path, socket_mode, socket_group, workers, insecure_bind)
    path = config.load_socket_path(config_path=config_path, socket_path=socket_path)
    if config.named_file(os.environ, config_path) is None:
        wanted = wanted._replace(config_path=file_to_keep(probe(path)))
    # Before anything stops: a mistake in the file, or a log that cannot be written, must not end what runs.
    examined = wanted.examined()
    os.close(open_log(log_path))
    ended = _stop(path, _say_nothing if as_json else click.echo)
    started = _start(wanted, examined, log_path)
    if ended is not None and ended.owner:
        note = f"The one before ran as {ended.owner}, this one runs as {user_name(os.geteuid())}"
        started = msgspec.structs.replace(started, notes=[*started.notes, note])
    if as_json:
        click.echo(json_line(_Restarted(stopped_pid=_pid(ended), **msgspec.structs.asdict(started))))
    else:
        _print(started)


class _Wanted(NamedTuple):
    """The options of a start."""

    config_path: str | None
    socket_path: str | None
    socket_mode: str | None
    socket_group: str | None
    workers: str | None = None
    insecure_bind: bool = False

    def examined(self) -> config.Examined:
        """The settings, without mistakes.

        Raises:
            ConfigError: there is one.
            StartupError: it cannot start with this environment.
        """
        examined = config.examine(**self._asdict())
        if (problem := config.missing_password(examined.valid(), os.environ)) is not None:
            raise StartupError(problem)
        return examined

    def arguments(self) -> list[str]:
        """What the daemon is started with, so that a reload, which reads the file again, finds what was given here.

        Paths are absolute: it works in another directory.
        """
        given = {
            "--config": config.named_file(os.environ, self.config_path),
            "--socket": config.named_socket(os.environ, self.socket_path),
            "--socket-mode": self.socket_mode,
            "--socket-group": self.socket_group,
            "--workers": self.workers,
        }
        words = [word for option, value in given.items() if value is not None for word in (option, value)]
        return [*words, "--insecure-bind"] if self.insecure_bind else words


def _start(wanted: _Wanted, examined: config.Examined, log_path: str) -> _Started:
    settings = examined.settings
    path = settings.listen.socket_path
    found = probe(path)
    if found.state is State.NOT_RUNNING and remedy(found):
        raise StartupError(_in_the_way(found))
    if found.state not in (State.NOT_RUNNING, State.CLOSED):
        notes = []
        if settings != config.examine({}, socket_path=path).settings:
            how = command("restart", path)
            notes = [f"Options and VASTAR_* variables given now do not apply to it; to apply them: {how}"]
        return _running_already(found, notes)
    log_fd = open_log(log_path)
    try:
        child = spawn(["run", *wanted.arguments()], log_fd, environ=os.environ, detached=True)
    except StartupError as error:
        said = " ".join(tail(log_path, 1))
        told = f"{log_path} ends with: {said!r}" if said else f"{log_path} says nothing"
        raise StartupError(f"the daemon did not start: {error}; {told}") from error
    finally:
        os.close(log_fd)
    if child.line != READY:
        child.process.wait()
        found = probe(path)
        if found.state is State.RUNNING:  # another start was faster
            return _running_already(found)
        raise StartupError(child.line)
    found = probe(path)
    if found.state is not State.RUNNING:
        end(child.process)
        raise StartupError(
            f"the daemon (PID {child.process.pid}) started but does not answer on {path}; see {log_path}"
        )
    child.process.returncode = 0  # it lives on: not ours to wait for
    listen = settings.listen
    return _Started(
        started=True,
        pid=found.pid,
        socket=found.socket_path,
        tcp=shown_address(listen.tcp_host, listen.tcp_port) if listen.tcp_port else None,
        config_file=None if examined.file is None else shown_path(examined.file),
        log=log_path,
        notes=[
            f"Credential {credential.name!r} cannot be used: {credential.env} is not set here"
            for credential in settings.credentials
            if credential.env is not None and not os.environ.get(credential.env)
        ]
        + forgetful_budgets(settings, os.environ),
    )


def _running_already(found: Found, notes: list[str] | None = None) -> _Started:
    """It runs already, which is what was wanted; or something else is in the way."""
    if found.state is State.RUNNING and not (found.health and found.health.draining):
        notes = list(notes or [])
        if found.owner:
            notes.insert(0, f"It belongs to {found.owner}, who sees all requests and keys that go through it")
        return _Started(started=False, pid=found.pid, socket=found.socket_path, notes=notes)
    raise StartupError(_in_the_way(found))


def _print(started: _Started) -> None:
    click.echo("Started the daemon" if started.started else "Already running")
    click.echo(f"   PID: {started.pid or 'not visible from here'}")
    click.echo(f"   Socket: {started.socket}")
    named = (("TCP", started.tcp), ("Configuration", started.config_file), ("Log", started.log))
    for line in (*(f"{name}: {value}" for name, value in named if value is not None), *started.notes):
        click.echo(f"   {line}")


def _say_nothing(_line: str) -> None:
    """For a script: what is said while it waits is for people."""


def _in_the_way(found: Found) -> str:
    path = found.socket_path
    if found.state is State.RUNNING:
        return f"the daemon on {path} (PID {found.pid}) is shutting down; wait for it with: {command('stop', path)}"
    if found.state in (State.FORBIDDEN, State.CUT_OFF, State.NOT_RUNNING):
        return f"{obstacle(found)}{remedy(found)}"
    if found.is_foreign:
        return f"{obstacle(found)}; {ANOTHER_PATH}"
    how = f" ({_by_force(path)})" if found.pid is not None and is_runtime(found.pid) else ""
    return f"{obstacle(found)}; stop it first{how}, or {ANOTHER_PATH}"


def _by_force(path: str) -> str:
    return f"vastar-runtime clean --socket {shlex.quote(path)}"


def _stop(path: str, say: Callable[[str], object]) -> Found | None:
    """The daemon that has ended; None: none ran."""
    found = probe(path)
    if found.state is State.NOT_RUNNING:
        say(f"Not running: {obstacle(found)}{remedy(found)}")
        return None
    if found.state is State.FORBIDDEN:
        raise StartupError(f"{obstacle(found)}{remedy(found)}")
    if found.pid is None:
        raise StartupError(f"the daemon on {path} runs where its process cannot be seen from here; stop it there")
    # A second signal would cut off what a drain lets finish.
    draining = found.state is State.CLOSED or (found.health is not None and found.health.draining)
    try:
        with Process(found.pid) as process:
            if draining:
                say(f"Shutting down already (PID {found.pid}): waiting for it")
            else:
                process.send(signal.SIGTERM)
                if not process.wait(1.0):
                    say(_why_it_takes_longer(found))
            if not process.wait(STOP_TIMEOUT_S):
                raise StartupError(
                    f"the daemon on {path} (PID {found.pid}) did not end within {STOP_TIMEOUT_S:g} s; "
                    f"end it by force: {_by_force(path)}"
                )
    except ProcessLookupError:
        pass  # it ended between the two looks
    say(f"Stopped (PID {found.pid})")
    return found


def _pid(ended: Found | None) -> int | None:
    return None if ended is None else ended.pid


def _why_it_takes_longer(found: Found) -> str:
    if found.state is State.SILENT:
        return f"It did not answer before, and may hang: waiting for its end ({STOP_TIMEOUT_S:g} s at most)"
    return "Requests in flight finish first (30 s at most)"
