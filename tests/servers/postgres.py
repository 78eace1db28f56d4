"""A private PostgreSQL cluster."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from servers.process import MissingProgram, Server, StartFailed, free_ports, program, scratch_folder, spawn

PASSWORD = "millrace"


@dataclass(slots=True)
class Postgres:
    """A running cluster.

    Attributes:
        url: Its maintenance database, as postgresql:// over TCP with a password.
        folder: Also where its Unix socket is.
    """

    url: str
    port: int
    folder: Path
    user: str
    is_durable: bool
    server: Server | None = None

    def new_database(self) -> str:
        """Make an empty database; return its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            # Copying the template file by file is quicker here than logging it block by block.
            connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy".encode())
        return self.url.rpartition("/")[0] + f"/{name}"

    def close_connections(self) -> None:
        """Drop every client's connection, as a failover does."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )

    def stop(self) -> None:
        """End the cluster without a checkpoint, as a crash does."""
        if self.server is not None:
            self.server.stop()
            self.server = None

    def start(self) -> None:
        """Start the cluster on its data, new or left by stop. Raises StartFailed."""
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder}
        options |= {"max_connections": 200, "shared_buffers": "64MB"}
        if not self.is_durable:
            # Survives a killed server, not a power loss, which no test of this kind can cause.
            options |= {"fsync": "off"}
        self.server = spawn(
            [
                _binary("postgres"),
                "-D",
                self.folder / "data",
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            folder=self.folder,
            name="postgres",
            user=self.user,
            # Immediate shutdown: SIGKILL would leave its System V segment behind.
            stop_signal=signal.SIGQUIT,
        )
        self.server.wait_until(self._accepts)

    def _accepts(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False


@contextlib.contextmanager
def run(*, is_durable: bool = False) -> Iterator[Postgres]:
    """Start a cluster for the length of a block; its data go with it.

    Args:
        is_durable: Whether commits wait for the disk; benchmarks want that.

    Raises:
        MissingProgram, StartFailed.
    """
    initdb = _binary("initdb")
    folder = scratch_folder("postgres")
    try:
        user = _server_user(folder)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        command: list[str | Path] = [initdb, "-D", folder / "data", "-U", "millrace", "--pwfile", secret]
        command += ["--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        command += ["--no-sync", "--no-instructions"]
        made = subprocess.run(command, user=user or None, cwd="/", capture_output=True, text=True)
        if made.returncode:
            raise StartFailed(f"initdb failed: {made.stderr}")
        (port,) = free_ports(1)
        url = f"postgresql://millrace:{PASSWORD}@127.0.0.1:{port}/postgres"
        cluster = Postgres(url=url, port=port, folder=folder, user=user, is_durable=is_durable)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _server_user(folder: Path) -> str:
    """PostgreSQL refuses to run as root, so root lends the folder to another user; return that user's name."""
    if os.geteuid() != 0:
        return ""
    names = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in names:
            os.chown(folder, pwd.getpwnam(name).pw_uid, -1)
            return name
    raise MissingProgram("PostgreSQL does not run as root, and there is neither a user postgres nor nobody.")


def _binary(name: str) -> Path:
    # Debian keeps them off the PATH, one folder a version; the newest comes first.
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return program(name, *versions)
