"""Where a client's gateway is now: found when first needed, found again when it went away with another script's factory."""

from __future__ import annotations

import os
import threading

from millrace.client.find import Factory, find_gateway


class Locator:
    """Remembers the gateway's URL, and the factory that was started for it. Blocks; for several threads."""

    def __init__(self, url: str | None, home: str | os.PathLike[str] | None) -> None:
        self._told, self._home = url, home
        self._url = ""
        self._factory: Factory | None = None
        self._lock = threading.Lock()

    def locate(self) -> str:
        """Return the URL; the first call may start a factory. Raises what `find_gateway` does."""
        with self._lock:
            if not self._url:
                found = find_gateway(self._told, self._home)
                self._url, self._factory = found.url, found.factory or self._factory
            return self._url

    def relocate(self, lost: str) -> str:
        """Return where the gateway is after `lost` stopped answering; a new factory is started if the old one is gone."""
        with self._lock:
            if self._url == lost:
                self._url = ""
        return self.locate()

    @property
    def started_factory(self) -> bool:
        return self._factory is not None

    def close(self) -> None:
        """Stop the factory that was started here, if one was."""
        with self._lock:
            factory, self._factory, self._url = self._factory, None, ""
        if factory is not None:
            factory.stop()
