"""What ``vastar-runtime status`` says where there is nobody to ask."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from command_line import run

from vastar_runtime.config.permissions import user_name


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
    other = "run this as root (uid 0), or choose another path with --socket"
    way_out = other if uid == 0 else f"let its owner in: chmod u+x {directory}"
    whose = f"the directory {directory} belongs to {user_name(uid)}, mode 0000"
    why = f"o permission to reach socket {path}: {whose}; {way_out}\n"
    assert (status.exit_code, status.output) == (1, f"N{why}")
    assert [(each.exit_code, each.output) for each in others] == [(1, f"Error: n{why}")] * 2
