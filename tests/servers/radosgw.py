"""A private S3 service: Ceph's gateway over one monitor and one object daemon."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from servers.process import Server, StartFailed, free_ports, program, scratch_folder, spawn

ACCESS_KEY = "millrace-tests"
SECRET_KEY = "millrace-tests-secret"
BACKENDS = ("bluestore", "memstore")  # each failed to start on some machine where the other worked

CONFIG = """\
[global]
fsid = {fsid}
mon_host = [v1:127.0.0.1:{mon_port}]
mon_initial_members = a
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
ms_bind_msgr2 = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
osd_crush_chooseleaf_type = 0
mon_data_avail_crit = 1
mon_osd_full_ratio = .99
mon_max_pg_per_osd = 1000
log_file = {folder}/$name.log
run_dir = {folder}
pid_file = {folder}/$name.pid
admin_socket = {folder}/$name.asok
crash_dir = {folder}
# The monitor collects changes for a second before it decides; each pool of the gateway waits for several decisions.
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
[mon.a]
mon_data = {folder}/mon
[osd.0]
osd_data = {folder}/osd
osd_objectstore = {backend}
bluestore_block_size = 8589934592
memstore_device_bytes = 4294967296
osd_memory_target = 939524096
[client.rgw]
rgw_data = {folder}/rgw
# Without tcp_nodelay small reads run at 22 a second.
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_enable_usage_log = false
rgw_rados_pool_pg_num_min = 8
rgw_dns_name = 127.0.0.1
"""


@dataclass(slots=True)
class RadosGW:
    """A running S3 service.

    Attributes:
        endpoint: host:port, plain HTTP.
    """

    endpoint: str
    folder: Path
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    daemons: list[Server] = field(default_factory=list)
    gateway: Server | None = None

    def stop(self) -> None:
        """End the gateway alone, as a crash does; objects stay."""
        if self.gateway is not None:
            self.gateway.stop()
            self.gateway = None

    def start(self) -> None:
        """Start the gateway. Raises StartFailed."""
        command = [program("radosgw"), *self.arguments, "-n", "client.rgw", "-f"]
        self.gateway = spawn(command, folder=self.folder, name="radosgw")
        self.gateway.wait_until(self._answers, timeout_s=120)

    @property
    def arguments(self) -> list[str | Path]:
        return ["-c", self.folder / "ceph.conf"]

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self.endpoint, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@contextlib.contextmanager
def run() -> Iterator[RadosGW]:
    """Start the service for the length of a block; its data go with it. Raises MissingProgram, StartFailed."""
    for name in ("monmaptool", "ceph-mon", "ceph-osd", "ceph", "radosgw", "radosgw-admin"):
        program(name)
    with contextlib.ExitStack() as stack:
        service = _with_any_backend(stack)
        stack.callback(service.stop)
        service.start()
        keys = ["--uid=tests", "--display-name=tests", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"]
        _call(service, "radosgw-admin", "-n", "client.rgw", "user", "create", *keys)
        yield service


def _with_any_backend(stack: contextlib.ExitStack) -> RadosGW:
    faults = []
    for backend in BACKENDS:
        attempt = contextlib.ExitStack()
        try:
            service = _start_daemons(attempt, backend)
        except StartFailed as error:
            attempt.close()
            faults.append(f"{backend}: {error}")
            continue
        stack.push(attempt.pop_all().__exit__)
        return service
    raise StartFailed("\n".join(faults))


def _start_daemons(stack: contextlib.ExitStack, backend: str) -> RadosGW:
    folder = scratch_folder("s3")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    mon_port, port = free_ports(2)
    fsid = str(uuid.uuid4())
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    config = CONFIG.format(fsid=fsid, mon_port=mon_port, port=port, folder=folder, backend=backend)
    (folder / "ceph.conf").write_text(config)
    service = RadosGW(endpoint=f"127.0.0.1:{port}", folder=folder)
    monmap = folder / "monmap"
    _call(None, "monmaptool", "--create", "--addv", "a", f"[v1:127.0.0.1:{mon_port}]", "--fsid", fsid, monmap)
    _call(service, "ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
    monitor = spawn([program("ceph-mon"), *service.arguments, "-i", "a", "-f"], folder=folder, name="ceph-mon")
    stack.callback(monitor.stop)
    monitor.wait_until(lambda: "quorum" in _ask(service, "mon", "stat"))
    osd_id = str(uuid.uuid4())
    _call(service, "ceph", "osd", "new", osd_id)
    _call(service, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id)
    # Configured by the monitor, the daemon knows its address but not yet the cluster's id; where its first request is
    # sooner than the answer to that, it is refused and gives up.
    daemon = spawn(
        [program("ceph-osd"), *service.arguments, "-i", "0", "-f", "--no-mon-config"], folder=folder, name="ceph-osd"
    )
    stack.callback(daemon.stop)
    daemon.wait_until(lambda: "1 up" in _ask(service, "osd", "stat"))
    return service


def _call(service: RadosGW | None, name: str, *arguments: str | Path) -> None:
    command = [program(name), *(service.arguments if service else []), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise StartFailed(f"{name} failed: {done.stderr[-2000:] or done.stdout[-2000:]}")


def _ask(service: RadosGW, *arguments: str) -> str:
    command = [program("ceph"), *service.arguments, "--connect-timeout", "3", *arguments]
    return subprocess.run(command, capture_output=True, text=True).stdout
