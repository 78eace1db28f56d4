"""From `name@version` and arguments to a module."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch

from millrace.architectures.arguments import Arguments, arguments_class, parse_arguments
from millrace.architectures.base import Architecture

_CLASSES = {
    "mlp@1": "millrace.architectures.mlp:Mlp",
    "text_encoder@1": "millrace.architectures.text_encoder:TextEncoder",
    "gpt@1": "millrace.architectures.gpt:Gpt",
}


def build(name: str, arguments: Arguments | Mapping[str, Any]) -> Architecture:
    """Build a freshly initialised module on the current default device.

    Raises:
        InvalidSpec: Unknown architecture or wrong arguments.
    """
    parsed = arguments if isinstance(arguments, arguments_class(name)) else parse_arguments(name, dict(arguments))
    module, _, attribute = _CLASSES[name].partition(":")
    cls: type[Architecture] = getattr(importlib.import_module(module), attribute)
    return cls(parsed)


def outline(name: str, arguments: Arguments | Mapping[str, Any]) -> Architecture:
    """Build on the `meta` device: shapes, counts and costs, without the memory."""
    with torch.device("meta"):
        return build(name, arguments)
