"""What ``vastar-runtime status`` says where there is nobody to ask."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from command_line import run


def test_a_socket_whose_directory_may_not_be_entered_is_told_as_that() -> None:
    with tempfile.TemporaryDirectory(prefix="v-", dir="/tmp") as directory, socket.socket(socket.AF_UNIX) as listening:
        path = Path(directory) / "s"
        listening.bind(str(path))
        listening.listen()
        uid = os.geteuid()
        os.chmod(directory, 0)
        try:
            if uid == 0:
                os.seteuid(65534)
            status, *others = (
                run(command, "--socket", str(path), environ={"VASTAR_CONFIG": os.devnull})
                for command in ("status", "reload", "stop")
            )
        finally:
            os.seteuid(uid)
            os.chmod(directory, 0o700)
    why = f"o permission to reach socket {path}: Permission denied; see the modes of its directories\n"
    assert (status.exit_code, status.output) == (1, f"N{why}")
    assert [(each.exit_code, each.output) for each in others] == [(1, f"Error: n{why}")] * 2
