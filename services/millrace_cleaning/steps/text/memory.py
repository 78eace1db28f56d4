"""Reading and writing memory by address inside kernels.

Numba counts references to an array at every call that takes one, which costs more than what a small function does with it.
Functions that are called for every word take addresses instead; whoever calls them holds the array, and answers for the range.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_INT64 = ir.IntType(64)


@intrinsic
def byte_at(typing_context: Any, address: Any) -> Any:
    """Return the byte at an address."""
    return types.int64(types.int64), lambda context, builder, signature, args: _load(builder, args[0], 8)


@intrinsic
def uint64_at(typing_context: Any, address: Any) -> Any:
    """Return the eight bytes at an address, which need not be aligned."""
    return types.uint64(types.int64), lambda context, builder, signature, args: _load(builder, args[0], 64)


@intrinsic
def kind_at(typing_context: Any, kinds: Any, i: Any) -> Any:
    """Return number i of the uint16 from an address on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _load(builder, _behind(builder, args[0], args[1], 2), 16)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def place_at(typing_context: Any, text: Any, places: Any, i: Any) -> Any:
    """Return text plus number i of the uint32 from an address on: where the bytes of character i begin."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.add(args[0], _load(builder, _behind(builder, args[1], args[2], 4), 32))

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def first_byte(typing_context: Any, text: Any, places: Any, i: Any) -> Any:
    """Return the byte at place_at(text, places, i)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.add(args[0], _load(builder, _behind(builder, args[1], args[2], 4), 32))
        return _load(builder, place, 8)

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def int64_at(typing_context: Any, numbers: Any, i: Any) -> Any:
    """Return number i of the int64 from an address on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _load(builder, _behind(builder, args[0], args[1], 8), 64)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def int32_at(typing_context: Any, numbers: Any, i: Any) -> Any:
    """Return number i of the int32 from an address on; none is negative."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _load(builder, _behind(builder, args[0], args[1], 4), 32)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def put_int32(typing_context: Any, numbers: Any, i: Any, value: Any) -> Any:
    """Write number i of the int32 from an address on."""
    return types.void(types.int64, types.int64, types.int64), _writer(32)


@intrinsic
def put_int64(typing_context: Any, numbers: Any, i: Any, value: Any) -> Any:
    """Write number i of the int64 from an address on."""
    return types.void(types.int64, types.int64, types.int64), _writer(64)


@intrinsic
def put_uint64(typing_context: Any, numbers: Any, i: Any, value: Any) -> Any:
    """Write number i of the uint64 from an address on."""
    return types.void(types.int64, types.int64, types.uint64), _writer(64)


def _writer(width: int) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        type_ = ir.IntType(width)
        value = args[2] if width == 64 else builder.trunc(args[2], type_)
        address = _behind(builder, args[0], args[1], width // 8)
        builder.store(value, builder.inttoptr(address, type_.as_pointer()), align=1)
        return context.get_dummy_value()

    return generate


def _behind(builder: Any, address: Any, i: Any, size: int) -> Any:
    return builder.add(address, builder.mul(i, ir.Constant(_INT64, size)))


def _load(builder: Any, address: Any, width: int) -> Any:
    type_ = ir.IntType(width)
    value = builder.load(builder.inttoptr(address, type_.as_pointer()), align=1)
    return value if width == 64 else builder.zext(value, _INT64)
