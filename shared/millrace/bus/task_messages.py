"""How a command looks on the wire: a message of Celery's protocol, version 2. Importing this imports Celery."""

from __future__ import annotations

from functools import cache

from celery import Celery

from millrace.bus import topology
from millrace.bus.messages import Outgoing
from millrace.contracts.base import canonical_json
from millrace.contracts.commands import EXECUTE_TASK, ExecuteAttempt


def encode_command(command: ExecuteAttempt) -> Outgoing:
    """A task message whose only argument is the command; its trace context is in the headers too."""
    task = _encoder().amqp.as_task_v2(
        command.attempt_id, EXECUTE_TASK, args=(command.model_dump(mode="json"),),
        # Celery's default is a repr of the whole config in the headers.
        argsrepr=f"({command.attempt_id!r},)", kwargsrepr="{}", ignore_result=True,
    )  # fmt: skip
    queue = topology.commands_queue(command.service, command.resource_class)
    return Outgoing(
        id=command.attempt_id, exchange=topology.COMMANDS, routing_key=queue.routing_key, queue=queue,
        body=canonical_json(task.body).encode(), headers={**task.headers, **command.trace},
        properties={"correlation_id": command.attempt_id},
    )  # fmt: skip


@cache
def _encoder() -> Celery:
    return Celery("millrace.encoder", set_as_current=False)
