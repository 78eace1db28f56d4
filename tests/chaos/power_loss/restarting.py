"""The factory that starts again where the power went: every run that was accepted comes to its end."""

from __future__ import annotations

from chaos.power_loss.factory_work import SETTINGS
from chaos.power_loss.losses import Survivor
from millrace.settings import Settings
from millrace.testing.checker import check
from millrace.testing.factory import running_factory

LIMIT_S = 60.0


def restart(survivor: Survivor) -> list[str]:
    """Start a factory there, wait for its runs, stop it, and say what is not as it should be."""
    accepted = [words[0] for word, *words in survivor.promises if word == "accepted"]
    with running_factory({"MILLRACE_HOME": str(survivor.home), **SETTINGS}) as factory:
        ends = {run_id: factory.client.run(run_id).wait_end(timeout_s=LIMIT_S).status for run_id in accepted}
    wrong = [f"run {run_id} ended {status}" for run_id, status in ends.items() if status != "succeeded"]
    return wrong + [str(v) for v in check(Settings(home=survivor.home), accepted=accepted, patience_s=5)]
