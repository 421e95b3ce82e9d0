"""``vastar-runtime run``: the daemon in the foreground."""

import contextlib
import os
import signal
import sys
from functools import partial

import click

from vastar_runtime import config
from vastar_runtime.errors import StartupError

from .exit_codes import ExitCode
from .options import listen_options
from .process import title
from .service_manager import ServiceManager
from .standard_descriptors import FIRST_OTHER

READY = "ready"


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vastar-runtime run --socket /run/app/vastar.sock --socket-mode 0660 --socket-group app",
)
@listen_options
@click.option("--ready-fd", type=click.IntRange(min=FIRST_OTHER), hidden=True)
def run(
    config_path: str | None,
    socket_path: str | None,
    socket_mode: str | None,
    socket_group: str | None,
    workers: str | None,
    insecure_bind: bool,
    ready_fd: int | None,
) -> None:
    """Run the daemon in the foreground (systemd, containers).

    Logs to standard error. SIGTERM and Ctrl-C let requests in flight finish (30 s at most); a second one stops now.
    SIGHUP, as vastar-runtime reload, reads the configuration again.
    """
    pipe = _ReadyPipe(ready_fd)
    manager = ServiceManager(os.environ)

    def ready() -> None:
        pipe.tell(READY)
        manager.tell_ready()

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload that is asked for before there is anything to reload
    try:
        examine = partial(
            config.examine,
            # Now, as the directory may be gone when it is read again.
            config_path=config.named_file(os.environ, config_path),
            socket_path=socket_path,
            socket_mode=socket_mode,
            socket_group=socket_group,
            workers=workers,
            insecure_bind=insecure_bind,
        )
        examined = examine()
        settings = examined.valid()
        from setproctitle import setproctitle

        setproctitle(title(settings.listen.socket_path))
        number = _number_of_workers(settings.listen.workers)
        if number == 1:
            from vastar_runtime import daemon

            daemon.run(settings, examine, config_file=examined.file, ready=ready)
        else:
            from vastar_runtime.workers import supervisor

            supervisor.run(settings, examine, number, config_file=examined.file, ready=ready)
    except StartupError as error:
        pipe.tell(str(error))
        raise
    except KeyboardInterrupt:  # before the daemon listens to signals
        sys.exit(ExitCode.INTERRUPTED)


def _number_of_workers(configured: int) -> int:
    if configured != config.AUTO_WORKERS:
        return configured
    from vastar_runtime.workers.cores import usable_cores

    return usable_cores()


class _ReadyPipe:
    """Tells the process that started this one how the start went: READY, or why it failed. Once."""

    def __init__(self, fd: int | None) -> None:
        if fd is not None:
            try:
                os.set_inheritable(fd, False)
            except OSError as error:
                raise click.BadParameter(f"{fd} is no open file descriptor", param_hint="--ready-fd") from error
        self._fd = fd

    def tell(self, text: str) -> None:
        fd, self._fd = self._fd, None
        if fd is None:
            return
        # Whoever waited may be gone by now, which is no reason not to run.
        with contextlib.suppress(BrokenPipeError), open(fd, "w", encoding="utf-8", errors="replace") as pipe:
            pipe.write(f"{text}\n")
