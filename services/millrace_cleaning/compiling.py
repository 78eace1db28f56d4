"""Saying that rules over text are being compiled: numba does so once a machine, and nothing else moves meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from millrace.runtime.stage import Context
from millrace_cleaning.extras import needing
from millrace_cleaning.settings import CleanConfig

STEP = "compiling text kernels, once"
_COMPILED_EXTRAS = ("text", "pii")


@contextmanager
def telling_of_compiling(context: Context, config: CleanConfig) -> Iterator[None]:
    """Report it as progress whenever a kernel is compiled in this block, rather than read from numba's cache; log it once.

    Raises:
        StageFailed: numba, which the recipe needs, is not installed here.
    """
    if config.near_dedup is None and not any(step.extra in _COMPILED_EXTRAS for step in config.steps):
        yield
        return
    with needing("text"):
        from numba.core import event

    class Teller(event.Listener):
        def __init__(self) -> None:
            self.has_told = False

        def on_start(self, event: Any) -> None:  # noqa: ARG002  # numba calls it so
            context.progress(0, 0, unit="rows", step=STEP)
            if not self.has_told:
                context.log.info("text_kernels_compiling")
                self.has_told = True

        def on_end(self, event: Any) -> None:
            """A kernel is compiled while the one that calls it is: what follows is not known here."""

    with event.install_listener("numba:compile", Teller()):
        yield
