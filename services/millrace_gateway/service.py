"""The gateway's process: bind, announce the address, serve until told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI

from millrace import errors
from millrace.runtime.listening import announced, bind, url_of
from millrace.settings import load_settings
from millrace_gateway.app import create_api
from millrace_gateway.backends import open_backends
from millrace_gateway.edge import Edge
from millrace_gateway.settings import GatewaySettings

GRACE_S = 10
"""How long open requests may go on after a stop was asked for; streams end at once."""


def main(argv: Sequence[str] = ()) -> int:
    """Serve the API until told to stop. Takes no arguments: settings come from the environment."""
    if argv:
        raise errors.InvalidInput(f"The gateway takes no arguments; found {' '.join(argv)!r}.")
    serve(load_settings(GatewaySettings))
    return 0


def serve(settings: GatewaySettings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        Conflict: The port is taken.
        InvalidInput, Unauthorized: The address is not this host's, or not allowed.
        Unavailable: A backend could not be opened.
    """
    api = create_api()
    config = uvicorn.Config(
        Edge(api, settings),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",  # backends are opened here, so that a failure is our error and not a logged traceback
        timeout_graceful_shutdown=GRACE_S,
    )
    with (
        bind(settings.gateway_host, settings.gateway_port, variable="MILLRACE_GATEWAY") as listener,
        asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,
    ):
        runner.run(_serve(settings, api, config, listener))


async def _serve(settings: GatewaySettings, api: FastAPI, config: uvicorn.Config, listener: socket.socket) -> None:
    async with open_backends(settings) as backends:
        api.state.backends = backends
        server = _Server(config, on_exit=backends.live.close_streams)
        with announced(settings.home, "gateway", url_of(listener)):
            await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends the streams when asked to stop: they would keep it waiting for as long as their runs take."""

    def __init__(self, config: uvicorn.Config, *, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the signature is uvicorn's
        # Unlike uvicorn's own, it does not raise the signal again after the end: a clean stop ends with exit code 0.
        self._on_exit()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True
