"""A second host of a factory: one more conductor, gateway and worker under a supervisor of their own.

python -m chaos.second_host        (with tests/ on the path, and the MILLRACE_* variables of the factory)
"""

from __future__ import annotations

import sys

from millrace.runtime.logging import configure_logging
from millrace.runtime.supervisor import Supervisor, service_process
from millrace.settings import Settings, load_settings


def main() -> int:
    settings: Settings = load_settings()
    configure_logging(settings, service="second")
    processes = [
        service_process("conductor", label="conductor2"),
        service_process("gateway", label="gateway2"),
        service_process("worker", "all", "--classes", "cpu", label="worker2"),
    ]
    return Supervisor(processes, home=settings.home, parent_fd=sys.stdin.fileno()).run()


if __name__ == "__main__":
    sys.exit(main())
