"""Five no-op Dagster ops a job, with the default (multiprocess) executor and a SQLite instance. Runs in its own environment.

dagster_job.py FOLDER NUM_RUNS
"""

import json
import os
import sys
import time

from dagster import DagsterInstance, In, Nothing, execute_job, job, op, reconstructable


@op
def first() -> None: ...


@op(ins={"after": In(Nothing)})
def step() -> None: ...


@job
def five() -> None:
    done = first()
    for number in range(4):
        done = step.alias(f"step{number}")(done)


def main() -> None:
    os.environ["DAGSTER_HOME"] = sys.argv[1]
    alone = []
    with DagsterInstance.get() as instance:
        for _ in range(int(sys.argv[2])):
            begin = time.perf_counter()
            with execute_job(reconstructable(five), instance=instance) as result:
                assert result.success
            alone.append(time.perf_counter() - begin)
    print(json.dumps({"alone": alone, "steps_per_s": 5 * len(alone) / sum(alone)}))


if __name__ == "__main__":
    main()
