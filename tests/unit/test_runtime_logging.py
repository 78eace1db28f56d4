"""Logs: what happens to a process whose lines nobody takes any more."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import structlog
from millrace.runtime.logging import configure_logging
from millrace.settings import Settings

configure_logging(Settings())
for number in range(1000):
    structlog.get_logger().info("still_here", number=number)
print("worked on")
"""


def test_a_process_whose_supervisor_was_killed_works_on_when_it_logs() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=writer, text=True, timeout=60, check=False
        )
    finally:
        os.close(writer)
    assert done.stdout == "worked on\n"
