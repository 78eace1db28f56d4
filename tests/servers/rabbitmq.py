"""A private RabbitMQ node without plugins."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import amqp

from servers.process import Server, StartFailed, answers, free_ports, program, scratch_folder, spawn

# Debian's wrapper on the PATH would run the node as another user, on the system's data.
PLAIN_SCRIPTS = Path("/usr/lib/rabbitmq/bin")

# No busy-waiting schedulers: an idle node costs under 1% of a core instead of half of one.
ERLANG_FLAGS = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
CONFIG = """\
loopback_users = none
raft.wal_max_size_bytes = 16777216
log.console.level = warning
log.file = false
"""


@dataclass(slots=True)
class RabbitMQ:
    """A running node.

    Attributes:
        url: Its default virtual host, as amqp://.
    """

    url: str
    node: str
    cookie: str
    folder: Path
    env: dict[str, str]
    servers: list[Server] = field(default_factory=list)

    def new_vhost(self) -> str:
        """Make an empty virtual host; return its amqp:// URL."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        # erl_call takes milliseconds where rabbitmqctl, which starts a node of its own, takes two seconds.
        self._erlang(
            f'rabbit_vhost:add(<<"{name}">>, <<"tests">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, '
            '<<"tests">>).'
        )
        return self.url.removesuffix("/") + f"/{name}"

    def close_connections(self) -> None:
        """Drop every client's connection, as a failover does."""
        self._erlang('rabbit_networking:close_all_connections("test").')

    def stop(self) -> None:
        """End the node, as power loss does."""
        for server in reversed(self.servers):
            server.stop()
        self.servers.clear()

    def start(self) -> None:
        """Start the node on its data, new or left by stop. Raises StartFailed."""
        port = int(self.env["RABBITMQ_NODE_PORT"])
        epmd = spawn(
            [program("epmd"), "-address", "127.0.0.1", "-port", self.env["ERL_EPMD_PORT"]],
            folder=self.folder,
            name="epmd",
        )
        self.servers.append(epmd)
        epmd.wait_until(lambda: answers(int(self.env["ERL_EPMD_PORT"])))
        node = spawn(
            [program("rabbitmq-server", PLAIN_SCRIPTS)],
            folder=self.folder,
            name="rabbitmq",
            env=self.env,
        )
        self.servers.append(node)
        node.wait_until(lambda: self._accepts(port))

    def _accepts(self, port: int) -> bool:
        try:
            with amqp.Connection(f"127.0.0.1:{port}", connect_timeout=2):
                return True
        except (OSError, amqp.exceptions.AMQPError):
            return False

    def _erlang(self, expression: str) -> None:
        answer = subprocess.run(
            [program("erl_call"), "-sname", self.node, "-c", self.cookie, "-e"],
            input=f"{expression}\n".encode(),
            env={"ERL_EPMD_PORT": self.env["ERL_EPMD_PORT"], "HOME": self.env["HOME"]},
            check=True,
            capture_output=True,
            timeout=30,
        ).stdout.decode()
        if not answer.startswith("{ok,"):
            raise StartFailed(f"RabbitMQ answered {answer} to {expression}")


@contextlib.contextmanager
def run() -> Iterator[RabbitMQ]:
    """Start a node for the length of a block; its data go with it. Raises MissingProgram, StartFailed."""
    for name in ("rabbitmq-server", "epmd", "erl_call"):
        program(name, PLAIN_SCRIPTS)
    folder = scratch_folder("rabbitmq")
    port, dist_port, epmd_port = free_ports(3)
    node, cookie = f"millrace{port}@localhost", uuid.uuid4().hex
    (folder / "rabbitmq.conf").write_text(CONFIG)
    (folder / "enabled_plugins").write_text("[].\n")
    secret = folder / ".erlang.cookie"
    secret.write_text(cookie)
    secret.chmod(0o400)
    env = {
        "HOME": str(folder),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(dist_port),
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_FLAGS,
    }
    broker = RabbitMQ(url=f"amqp://guest:guest@127.0.0.1:{port}/", node=node, cookie=cookie, folder=folder, env=env)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
        shutil.rmtree(folder, ignore_errors=True)
