"""From a URL to a bus. The two transports differ in this file and below kombu; nowhere else."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from kombu import Connection

from millrace import errors
from millrace.bus import Bus, faults, links
from millrace.bus.bus import BrokerBus
from millrace.bus.embedded import transport

CONNECT_TIMEOUT_S = 4.0
HEARTBEAT_S = 30


def connect(url: str, *, publish_timeout_s: float = 10.0) -> Bus:
    """Return the bus at `amqp[s]://user:password@host:port/vhost` or `embedded:///absolute/directory`.

    Nothing is opened yet; `check` says whether the broker answers.

    Args:
        publish_timeout_s: How long send and publish go on trying before they raise Unavailable.

    Raises:
        InvalidInput: The URL is of another kind.
    """
    kombu_url = broker_url(url)

    def open_connection(*, heartbeat: bool) -> Connection:
        return Connection(
            kombu_url, heartbeat=HEARTBEAT_S if heartbeat else 0, connect_timeout=CONNECT_TIMEOUT_S,
            ssl=tls_options(url), transport_options=links.SOCKET_LIMITS if url.startswith("amqp") else {},
        )  # fmt: skip

    return BrokerBus(url, open_connection, publish_timeout_s=publish_timeout_s)


def broker_url(url: str) -> str:
    """Check a broker's URL and return it as kombu reads it; makes `embedded://` known to kombu.

    Raises:
        InvalidInput: The scheme is another, or the directory is not absolute.
    """
    transport.register()
    scheme, _, rest = url.partition("://")
    if scheme == transport.ALIAS:
        if not rest.startswith("/"):
            raise errors.InvalidInput(
                "the embedded broker needs an absolute directory.", field=faults.FIELD, remedy="Write embedded:///path."
            )
        return f"{scheme}://{quote(rest)}"  # a directory's name may hold any character
    if scheme not in ("amqp", "amqps") or not urlsplit(url).hostname:
        raise errors.InvalidInput(
            f"expected amqp://user:password@host:port/vhost or embedded:///directory, not a {scheme or 'bare'} URL.",
            field=faults.FIELD, remedy="Correct the variable.",
        )  # fmt: skip
    return url


def tls_options(url: str) -> dict[str, None] | None:
    """What makes py-amqp check that an amqps:// server's certificate is for that host: off unless it is asked for.

    None as the name means the URL's host. Authorities of one's own go in SSL_CERT_FILE.
    """
    return {"server_hostname": None} if url.startswith("amqps") else None
