"""A click group that knows its commands' names and captions, and imports a command only when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from typing import Any

import click

from millrace import errors


class LazyGroup(click.Group):
    """Commands by name: import path and caption. Printing help imports none of them, and lists them by subject."""

    def __init__(
        self,
        *args: Any,
        lazy_commands: Mapping[str, tuple[str, str]],
        groups: Mapping[str, Collection[str]],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy_commands
        self._groups = groups

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self._lazy:
            return None
        module, _, name = self._lazy[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self._lazy and not args[0].startswith("-"):
            ctx.fail(f"No command {args[0]!r}; {errors.nearest(args[0], self._lazy)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        width = max(map(len, self._lazy))
        for subject, names in self._groups.items():
            with formatter.section(subject):
                formatter.write_dl([(name.ljust(width), self._lazy[name][1]) for name in names])
