"""Batches altered a few images at a time, or in one piece, whichever a CPU does sooner."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rafmodel import backend, native

# primitives that make each number from the same one of each operand, or move them without a table
ONE_BY_ONE = {
    *(
        "abs",
        "add",
        "and",
        "broadcast_in_dim",
        "clamp",
        "convert_element_type",
        "copy",
        "div",
        "eq",
        "exp",
        "exp2",
        "floor",
    ),
    *(
        "ge",
        "gt",
        "integer_pow",
        "le",
        "log",
        "logistic",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "neg",
        "not",
        "or",
        "pow",
        "reshape",
    ),
    *("rev", "round", "rsqrt", "select_n", "sign", "sqrt", "square", "squeeze", "sub", "tanh"),
}
FEW = 32  # numbers of a row to each of what it is summed up to, if it may be read once more for that
AT_ONCE = 2**20  # bytes of images altered together on a CPU: they and what is drawn for them stay in a core's cache


def in_turn(every: Callable[..., Any], *columns: Any, size: int, axis: int = 0) -> Any:
    """What ``every`` makes of all rows of some pytrees, each by itself; on a CPU about AT_ONCE bytes at a time where a row has
    ``size``.

    The same numbers, faster where a batch is larger than a cache, and the memory for what lies between is that of a few rows.
    Rows of the result lie along ``axis``, into which each turn writes its own: to stack them would copy the whole batch.
    What needs nothing in between is left in one piece.  A turn's rows are settled before they are written, as XLA gives a loop
    that writes into an array to one core only.
    """
    n = jax.tree.leaves(columns)[0].shape[0]
    turns = -(-n * size // backend.together(AT_ONCE))
    if turns <= 1 or _in_one_pass(every, *(jax.tree.map(lambda x: x[:1], column) for column in columns)):
        return every(*columns)
    few = -(-n // min(turns, n))

    def made(turn: Array | int) -> Any:
        rows = jax.tree.map(lambda column: jax.lax.dynamic_slice_in_dim(column, turn * few, few), columns)
        return every(*rows)

    def take_turn(turn: Array, found: Any) -> Any:
        """The last turn begins early enough to be a full one, and makes some rows again."""
        write = partial(jax.lax.dynamic_update_slice_in_dim, start_index=turn * few, axis=axis)
        return jax.tree.map(write, found, jax.tree.map(native.settled, made(turn)))

    shapes = jax.eval_shape(made, 0)
    room = jax.tree.map(lambda x: jnp.zeros((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype), shapes)
    return jax.lax.fori_loop(0, -(-n // few), take_turn, room)


def _in_one_pass(every: Callable[..., Any], *row: Any) -> bool:
    """Whether every number of a result is made from the same one of a row, or its mirror image, and from what is small, as are
    sums, or by machine code from all of an image; images of 8 bits that are summed up would all be kept as numbers in between."""
    leaves = jax.tree.leaves(row)
    size, summed = max(x.size for x in leaves), all(x.dtype != jnp.uint8 for x in leaves)
    if size <= 1:
        return False
    program = jax.make_jaxpr(every)(*row).jaxpr
    return _one_by_one(program, set(program.invars), size, summed)


def _one_by_one(program: Any, own: set[Any], size: int, summed: bool) -> bool:
    """The same of a program and those variables that are a row's own; what is made for all rows alike is made once."""
    own = set(own)
    for step in program.eqns:
        mine = [not hasattr(x, "val") and x in own for x in step.invars]
        if not any(mine):
            continue
        own |= set(step.outvars)
        if max(math.prod(x.aval.shape) for x in (*step.invars, *step.outvars)) < size:
            continue
        inner, name = step.params.get("jaxpr") or step.params.get("call_jaxpr"), step.primitive.name
        if inner is not None:
            inner = getattr(inner, "jaxpr", inner)
            alike = len(inner.invars) == len(mine)
            theirs = {x for x, yes in zip(inner.invars, mine, strict=True) if yes} if alike else set(inner.invars)
            if not _one_by_one(inner, theirs, size, summed):
                return False
        elif name == "reduce_sum":
            if not summed or step.outvars[0].aval.size > size // FEW:
                return False
        elif name not in ONE_BY_ONE and not native.whole(step.params):
            return False
    return True
