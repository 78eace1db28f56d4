"""What only a directory can do wrong: full and read-only disks, leftovers, dead writers."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from millrace import errors
from millrace.contracts.artifacts import Ref
from millrace.settings import Settings
from millrace.store.connect import open_store
from millrace.store.local import LocalStore

FILL_DISK = """
import io, resource, sys
from pathlib import Path
from millrace import errors
from millrace.store.local import LocalStore
store = LocalStore(Path(sys.argv[1]), tenant="default")
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    store.put_stream(io.BytesIO(bytes(2 * 2**20)))
except errors.ResourceExhausted as error:
    print(error)
"""

DIE_WRITING = """
import os, signal, sys
from pathlib import Path
from millrace.store.local import LocalStore
class Deadly:
    left = 3
    def read(self, size):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return b"half" * 1000
LocalStore(Path(sys.argv[1]), tenant="default").put_stream(Deadly())
"""


def _run(code: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, timeout=60)


def _files(root: Path) -> list[Path]:
    return [path for path in (root / "t").rglob("*") if path.is_file() and "locks" not in path.parts]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    # A limit on file sizes fails writes half-way, as a full disk does, and needs no disk to fill.
    said = _run(FILL_DISK, tmp_path).stdout
    assert "Cannot write" in said
    assert "MILLRACE_STORE_URL" in said
    assert _files(tmp_path) == []


def test_a_writer_killed_half_way_leaves_no_blob(tmp_path: Path) -> None:
    assert _run(DIE_WRITING, tmp_path).returncode == -9
    (leftover,) = _files(tmp_path)
    assert leftover.parent.name == "tmp"


def test_leftovers_of_dead_writers_go_after_a_day(tmp_path: Path) -> None:
    _run(DIE_WRITING, tmp_path)
    (leftover,) = _files(tmp_path)
    LocalStore(tmp_path, tenant="default")
    assert leftover.exists()
    os.utime(leftover, (0, time.time() - 25 * 3600))
    LocalStore(tmp_path, tenant="default")
    assert not leftover.exists()


def test_a_root_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.InvalidInput, match="MILLRACE_STORE_URL"):
        LocalStore(tmp_path / "file", tenant="default")


def test_a_root_without_permission_is_said() -> None:
    # Nobody makes folders there, not even root.
    with pytest.raises(errors.Unauthorized, match="MILLRACE_HOME"):
        LocalStore(Path("/sys/millrace"), tenant="default")


def test_a_blob_cannot_be_written_to(tmp_path: Path) -> None:
    LocalStore(tmp_path, tenant="default").put_bytes(b"written once")
    (blob,) = _files(tmp_path)
    assert blob.stat().st_mode & 0o222 == 0


def test_a_failing_source_is_not_blamed_on_the_store(tmp_path: Path) -> None:
    class Broken(io.RawIOBase):
        def read(self, _size: int = -1, /) -> bytes:
            raise ConnectionResetError("the sender went away")

    with pytest.raises(ConnectionResetError):
        LocalStore(tmp_path, tenant="default").put_stream(Broken())  # type: ignore[arg-type]  # only `read` is called
    assert _files(tmp_path) == []


def test_a_ref_that_is_not_ours_is_corrupt(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, tenant="default")
    store.write_ref("name", Ref(target={}, generation=1, nonce="n"), expected=None)
    (path,) = _files(tmp_path)
    path.write_text("{}")
    with pytest.raises(errors.Corrupt, match="name"):
        store.read_ref("name")


def test_a_ref_cannot_be_mistaken_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput, match="ref"):
        LocalStore(tmp_path, tenant="default").read_ref("a.ref/b")


def test_without_a_url_the_store_is_under_home(tmp_path: Path) -> None:
    store = open_store(Settings(home=tmp_path))
    assert isinstance(store, LocalStore)
    assert len(_files(tmp_path / "store")) == 0
    store.put_bytes(b"x")
    assert len(_files(tmp_path / "store")) == 1


def test_a_file_url_names_the_folder_literally(tmp_path: Path) -> None:
    folder = tmp_path / "100% #mine"
    open_store(Settings(home=tmp_path, store_url=f"file://{folder}")).put_bytes(b"x")
    assert len(_files(folder)) == 1


def test_a_local_store_does_not_import_the_s3_client() -> None:
    code = "import sys, millrace.store.connect; print('minio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
