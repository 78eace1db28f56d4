"""Five no-op Prefect tasks a flow, against a Prefect server of its own. Runs in its own environment.

prefect_flow.py FOLDER NUM_RUNS OPEN_RUNS NUM_ALONE
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def measure(num_runs: int, open_runs: int, num_alone: int) -> dict[str, object]:
    from prefect import flow, task

    @task(cache_policy=None)  # type: ignore[call-overload]
    async def step(number: int) -> int:
        return number

    @flow
    async def five() -> None:
        for number in range(5):
            await step(number)

    await five()
    alone = []
    for _ in range(num_alone):
        begin = time.perf_counter()
        await five()
        alone.append(time.perf_counter() - begin)
    places = asyncio.Semaphore(open_runs)

    async def one() -> None:
        async with places:
            await five()

    begin = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(num_runs)))
    return {"alone": alone, "steps_per_s": 5 * num_runs / (time.perf_counter() - begin)}


def main() -> None:
    folder, port = sys.argv[1], free_port()
    os.environ |= {
        "PREFECT_HOME": folder, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
    }  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
        print(json.dumps(asyncio.run(measure(*(int(a) for a in sys.argv[2:5])))))
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
