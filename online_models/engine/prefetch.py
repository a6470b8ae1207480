"""Reading ahead: what a loop needs some rounds later comes from memory meanwhile."""

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

AHEAD = 8
"""Rounds: as many as take about as long as memory does."""


def _prefetch(_: Any, array: Any, index: Any) -> Any:
    """Return signature and code, see `numba.extending.intrinsic`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tools: Any = cgutils
        made = context.make_array(array)(context, builder, arguments[0])
        places = [
            context.cast(builder, place, of_type, types.intp)
            for place, of_type in zip(tools.unpack_tuple(builder, arguments[1]), index, strict=True)
        ]
        element = tools.get_item_pointer(context, builder, array, made, places)
        pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        ask = builder.module.declare_intrinsic(
            "llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        )
        to_read, to_be_kept, values = flag(0), flag(3), flag(1)
        builder.call(ask, [builder.bitcast(element, pointer), to_read, to_be_kept, values])
        return context.get_dummy_value()

    return types.void(array, index), generate


prefetch = cast(Callable[[NDArray[Any], tuple[int, ...]], None], intrinsic(_prefetch))
"""Within a kernel: ask for the 64 bytes around an element of an array, by its full index, and do not wait for them."""
