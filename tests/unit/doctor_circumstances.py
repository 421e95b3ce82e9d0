"""Circumstances without a daemon, for the doctor's checks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from vastar_runtime.cli.doctor_checks.circumstances import Circumstances, look
from vastar_runtime.cli.doctor_checks.finding import Finding, State


def seen(tmp_path: Path, environ: Mapping[str, str] | None = None, **flags: str) -> Circumstances:
    """With nothing on the socket."""
    here = {"VASTAR_CONFIG": os.devnull, "VASTAR_SOCKET_PATH": "/tmp/v-nobody/s", "HOME": str(tmp_path)}
    return look(
        {**here, **(environ or {})},
        config_path=flags.get("config_path"),
        socket_path=None,
        log_path=flags.get("log_path", str(tmp_path / "log")),
        tenant_id="default",
    )


def one(findings: Iterable[Finding]) -> Finding:
    [finding] = findings
    return finding


def told(finding: Finding) -> tuple[State, str]:
    return finding.state, finding.found
