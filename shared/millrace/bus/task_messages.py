"""How a command looks on the wire: a message of Celery's protocol, version 2, with no more in it than a worker reads."""

from __future__ import annotations

from millrace.bus import topology
from millrace.bus.messages import Outgoing
from millrace.contracts.commands import EXECUTE_TASK, ExecuteAttempt

_EMBED = b'],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
"""After the positional arguments: the keywords, and what Celery's canvas would follow it with."""


def encode_command(command: ExecuteAttempt) -> Outgoing:
    """A task message whose only argument is the command without its defaults; its trace context is in the headers too.

    Celery's own encoder puts 19 headers around it, most of them null, and costs five times as much.
    """
    queue = topology.commands_queue(command.service, command.resource_class)
    headers = {"lang": "py", "task": EXECUTE_TASK, "id": command.attempt_id, "ignore_result": True, **command.trace}
    return Outgoing(
        id=command.attempt_id, exchange=topology.COMMANDS, routing_key=queue.routing_key, queue=queue,
        body=b"[[" + command.model_dump_json(exclude_defaults=True).encode() + _EMBED, headers=headers,
        correlation_id=command.attempt_id,
    )  # fmt: skip
