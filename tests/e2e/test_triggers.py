"""Pipelines that start by themselves, from the terminal, on a whole factory."""

from __future__ import annotations

import json
import time

from bad_inputs import Outcome, Terminal
from millrace.testing.factory import Factory

PIPELINE = """\
name: {name}
stages: {{step: {{kind: noop}}}}
triggers: [{trigger}]
"""


def test_a_clock_starts_runs_until_it_is_held(shared_factory: Factory, millrace: Terminal) -> None:
    path = millrace.write("p.yaml", PIPELINE.format(name="ticking", trigger='{cron: "* * * * * *"}'))
    assert "cron * * * * * * UTC" in millrace("apply", path).out
    client = shared_factory.client
    deadline = time.monotonic() + 20
    while len(client.runs(pipeline="ticking", status="succeeded").runs) < 2:
        assert time.monotonic() < deadline, millrace("triggers").out
        time.sleep(0.2)
    (trigger,) = json.loads(millrace("triggers", "--json").out)
    assert "paused" in millrace("triggers", "pause", trigger["trigger_id"]).out
    time.sleep(1.5)
    runs = client.runs(pipeline="ticking").runs
    time.sleep(2.5)
    assert client.runs(pipeline="ticking").runs[0].run_id == runs[0].run_id
    assert all(r.labels == {"trigger": trigger["trigger_id"]} for r in runs)
    assert len({r.run_id for r in runs}) == len(runs)
    millrace("pipelines", "forget", "ticking")
    assert json.loads(millrace("triggers", "--json").out) == []


def test_what_cannot_be_kept_is_refused_in_words(millrace: Terminal) -> None:
    def apply(trigger: str) -> Outcome:
        return millrace("apply", millrace.write("p.yaml", PIPELINE.format(name="kept", trigger=trigger)))

    apply('{cron: "never"}').refused("triggers.0.cron", "Expected a cron expression")
    apply('{new_objects: "s3://b/p/", param: data}').refused("triggers.0.param", "no data set parameter 'data'")
    apply('{cron: "* * * * *", params: {rate: 1}}').refused("no parameter 'rate'")
    millrace("triggers", "pause", "trg_" + "0" * 26).refused("There is no trigger", "millrace triggers")
    millrace("triggers", "pause").refused("Which trigger?")
    millrace("pipelines", "forget", "nope").refused("There is no pipeline 'nope'", "millrace pipelines")
