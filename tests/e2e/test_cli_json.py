"""What start, reload, restart and stop print for scripts."""

import json
from typing import Any

from command_place import Place, place, runtimes_under


def told(runtime: Place, *arguments: str, returncode: int = 0) -> dict[str, Any]:
    done = runtime.run(*arguments, "--json")
    assert (done.returncode, done.stderr) == (returncode, "")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_day_of_a_daemon_as_a_script_sees_it() -> None:
    with place() as runtime:
        file = runtime.directory / "runtime.toml"
        file.write_text('[[credential]]\nname = "k"\norigins = ["https://h"]\nenv = "NOT_SET"\n')
        started = told(runtime, "start", "--config", str(file))
        [pid] = runtimes_under(runtime.directory)
        common = {"socket": str(runtime.socket), "tcp": None}
        as_started = common | {
            "started": True,
            "config_file": str(file),
            "log": str(runtime.log),
            "notes": ["Credential 'k' cannot be used: NOT_SET is not set here"],
        }
        assert started == as_started | {"pid": pid}
        again = told(runtime, "start")
        assert again == common | {"started": False, "pid": pid, "config_file": None, "log": None, "notes": []}

        restarted = told(runtime, "restart", "--config", str(file))
        assert restarted == as_started | {"stopped_pid": pid, "pid": runtimes_under(runtime.directory)[0]}

        file.write_text("[policy.retry]\nmax_retries = 1\n")
        assert told(runtime, "reload") == {
            "file": str(file),
            "mistakes": [],
            "settings": 1,
            "scopes": 0,
            "needs_restart": [],
        }
        file.write_text("[policy.retry]\nmax_retrys = 1\n")
        [mistake] = told(runtime, "reload", returncode=1)["mistakes"]
        assert mistake.startswith(f"{file}:2: policy.retry.max_retrys: unknown key")

        stopped = told(runtime, "stop")
        assert stopped == {"stopped_pid": restarted["pid"], "socket": str(runtime.socket)}
        assert told(runtime, "stop") == {"stopped_pid": None, "socket": str(runtime.socket)}
