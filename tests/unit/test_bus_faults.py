"""What users read when a driver fails."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest
from amqp import exceptions as amqp

from millrace import errors
from millrace.bus import faults

AMQP = "amqp://joe:hunter2@broker:5673/runs"
EMBEDDED = "embedded:///srv/bus"


@pytest.fixture
def disk_full(tmp_path: Path) -> sqlite3.Error:
    db = sqlite3.connect(tmp_path / "small.sqlite")
    db.execute("PRAGMA max_page_count = 4")
    db.execute("CREATE TABLE t (body BLOB)")
    with pytest.raises(sqlite3.OperationalError) as caught:
        db.execute("INSERT INTO t VALUES (zeroblob(100000))")
    db.close()
    return caught.value


def test_a_full_disk_is_named_as_such(disk_full: sqlite3.Error) -> None:
    error = faults.translate(disk_full, EMBEDDED)
    assert isinstance(error, errors.ResourceExhausted)
    assert not error.retryable
    assert isinstance(faults.translate(OSError(errno.ENOSPC, "no space"), EMBEDDED), errors.ResourceExhausted)


@pytest.mark.parametrize("refusal", [amqp.AccessRefused("no"), amqp.NotAllowed("no")])
def test_a_refusal_names_user_and_virtual_host_and_no_password(refusal: Exception) -> None:
    error = faults.translate(refusal, AMQP)
    assert isinstance(error, errors.Unauthorized)
    assert "RabbitMQ at broker:5673 refused user 'joe' at virtual host 'runs'" in error.message
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("url", [AMQP, EMBEDDED])
def test_whatever_else_fails_may_be_tried_again_and_has_a_remedy(url: str) -> None:
    for cause in (ConnectionResetError(), TimeoutError(), amqp.ConnectionForced("bye"), sqlite3.OperationalError("x")):
        error = faults.translate(cause, url)
        assert isinstance(error, errors.Unavailable)
        assert error.remedy
        assert error.field == "MILLRACE_BROKER_URL"


def test_our_own_errors_pass_unchanged() -> None:
    error = errors.Unavailable("x")
    assert faults.translate(error, AMQP) is error
