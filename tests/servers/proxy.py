"""A TCP proxy that loses answers on demand, for what a client does when the network fails in the middle."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Proxy:
    """Forwards connections to one address, and can cut the answers of chosen requests.

    Attributes:
        address: host:port to connect to.
        num_cuts: How many answers were cut so far.
    """

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.num_cuts = 0
        self._lock = threading.Lock()
        self._plan: list[tuple[bytes, int]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, method: str, *, after_bytes: int = 0) -> None:
        """Let the next request of this method through, and drop its connection after so many bytes of the answer."""
        with self._lock:
            self._plan.append((method.encode() + b" ", after_bytes))

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(self._upstream)
        budgets: list[int] = []  # set by the thread that sees the request, used by the one that sees the answer
        back = threading.Thread(target=self._answer, args=(server, client, budgets), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                with self._lock:
                    for item in self._plan:
                        if data.startswith(item[0]):
                            self._plan.remove(item)
                            budgets.append(item[1])
                            break
                server.sendall(data)
        _close(server, client)

    def _answer(self, server: socket.socket, client: socket.socket, budgets: list[int]) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if budgets and sent + len(data) > budgets[0]:
                    client.sendall(data[: budgets[0] - sent])
                    self.num_cuts += 1
                    break
                client.sendall(data)
                sent += len(data) if budgets else 0
        _close(server, client)


def _close(*sockets: socket.socket) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


@contextlib.contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """Run a proxy before ``host:port`` for the length of a block."""
    running = Proxy(upstream)
    try:
        yield running
    finally:
        running.close()
