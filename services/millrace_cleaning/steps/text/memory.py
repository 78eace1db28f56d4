"""Reading and writing memory by address inside kernels.

Numba counts references to an array at every call that takes one, which costs more than what a small function does with it.
Functions that are called for every word take addresses instead; whoever calls them holds the array, and answers for the range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_INT64 = ir.IntType(64)


def _reader(size: int, result: Any = types.int64) -> Any:
    """An intrinsic that returns number i, of so many bytes, of those from an address on."""

    def read(_context: Any, numbers: Any, i: Any) -> Any:  # noqa: ARG001  # numba asks for their types
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return _load(builder, _behind(builder, args[0], args[1], size), size)

        return result(types.int64, types.int64), generate

    return intrinsic(read)


def _reader_at(size: int, result: Any = types.int64) -> Any:
    """An intrinsic that returns the number of so many bytes at an address, which need not be aligned."""

    def read(_context: Any, address: Any) -> Any:  # noqa: ARG001
        return result(types.int64), lambda _context, builder, _signature, args: _load(builder, args[0], size)

    return intrinsic(read)


def _writer(size: int, value_type: Any = types.int64) -> Any:
    """An intrinsic that writes number i, of so many bytes, of those from an address on."""

    def write(_context: Any, numbers: Any, i: Any, value: Any) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            type_ = ir.IntType(8 * size)
            number = args[2] if size == 8 else builder.trunc(args[2], type_)
            address = _behind(builder, args[0], args[1], size)
            builder.store(number, builder.inttoptr(address, type_.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, value_type), generate

    return intrinsic(write)


def _place(_context: Any, text: Any, places: Any, i: Any) -> Any:  # noqa: ARG001
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.add(args[0], _load(builder, _behind(builder, args[1], args[2], 4), 4))

    return types.int64(types.int64, types.int64, types.int64), generate


def _first(_context: Any, text: Any, places: Any, i: Any) -> Any:  # noqa: ARG001
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _load(builder, builder.add(args[0], _load(builder, _behind(builder, args[1], args[2], 4), 4)), 1)

    return types.int64(types.int64, types.int64, types.int64), generate


def _intrinsic(read: Any) -> Any:
    return intrinsic(read)


def _behind(builder: Any, address: Any, i: Any, size: int) -> Any:
    return builder.add(address, builder.mul(i, ir.Constant(_INT64, size)))


def _load(builder: Any, address: Any, size: int) -> Any:
    type_ = ir.IntType(8 * size)
    value = builder.load(builder.inttoptr(address, type_.as_pointer()), align=1)
    return value if size == 8 else builder.zext(value, _INT64)


byte_at: Callable[[int], int] = _reader_at(1)
uint64_at: Callable[[int], np.uint64] = _reader_at(8, types.uint64)
kind_at: Callable[[int, int], int] = _reader(2)
"""Number i of the uint16 from an address on."""
int32_at: Callable[[int, int], int] = _reader(4)
"""Number i of the int32 from an address on; none is negative."""
int64_at: Callable[[int, int], int] = _reader(8)
put_int32: Callable[[int, int, int], None] = _writer(4)
put_int64: Callable[[int, int, int], None] = _writer(8)
put_uint64: Callable[[int, int, np.uint64], None] = _writer(8, types.uint64)
place_at: Callable[[int, int, int], int] = _intrinsic(_place)
"""text plus number i of the uint32 from places on: where the bytes of character i of a text begin."""
first_byte: Callable[[int, int, int], int] = _intrinsic(_first)
"""The byte at place_at(text, places, i)."""
