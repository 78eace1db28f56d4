"""Five no-op Celery tasks in a chain on RabbitMQ: no run state, no journal, late acknowledgement. Runs in its own environment.

celery_chain.py BROKER_URL NUM_RUNS OPEN_RUNS NUM_ALONE
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from celery import Celery, chain

URL = sys.argv[1] if len(sys.argv) > 1 and "://" in sys.argv[1] else ""
app = Celery("celery_chain", broker=__import__("os").environ.get("PEER_BROKER", URL), backend="rpc://")
app.conf.update(
    task_acks_late=True, worker_prefetch_multiplier=1, task_default_queue="peer", broker_heartbeat=30,
    task_queue_max_priority=None, broker_transport_options={"confirm_publish": True}, result_expires=60,
)  # fmt: skip


@app.task(name="step", ignore_result=True)
def step(*_: object) -> int:
    return 0


@app.task(name="last")
def last(*_: object) -> int:
    return 0


def submit():  # type: ignore[no-untyped-def]  # celery ships no types
    return chain(step.si(), step.si(), step.si(), step.si(), last.si()).apply_async()


def main() -> None:
    num_runs, open_runs, num_alone = (int(a) for a in sys.argv[2:5])
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_chain", "worker", "-c", "2", "-l", "ERROR", "--without-gossip",
         "--without-mingle"],
        cwd=Path(__file__).parent, env={**__import__("os").environ, "PEER_BROKER": URL}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        submit().get(timeout=60)
        alone = []
        for _ in range(num_alone):
            begin = time.perf_counter()
            submit().get(timeout=60)
            alone.append(time.perf_counter() - begin)
        begin, waiting = time.perf_counter(), []
        for _ in range(num_runs):
            waiting.append(submit())
            if len(waiting) == open_runs:
                waiting.pop(0).get(timeout=60)
        for result in waiting:
            result.get(timeout=60)
        wall = time.perf_counter() - begin
    finally:
        worker.terminate()
        worker.wait(30)
    print(json.dumps({"alone": alone, "steps_per_s": 5 * num_runs / wall}))


if __name__ == "__main__":
    main()
