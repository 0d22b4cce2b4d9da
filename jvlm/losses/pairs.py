# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reductions over all pairs of rows and columns of the global batch, a block at a time.

A contrastive loss needs a log-sum-exp, a sum or a maximum of every row and every column of an
[N, N] matrix. The loss says what a block of it gives; here is how the blocks are run through.
b is the rows of one device, N those of all.

| way       | columns held   | logits held | what moves                            | matmuls |
| 'gather'  | N              | [b, N]      | all-gather, reduce-scatter of columns | 3       |
| 'chunked' | N              | [b, chunk]  | the same                              | 4       |
| 'ring'    | b              | [b, chunk]  | columns and their gradients, in turn  | 4       |

Matmuls are of [b, N] x E, forward and backward together. A block is computed once and reduced both
ways, where one matrix per direction would take 6: the columns' partial results are merged over
devices, which moves N scalars. The last two ways keep no logits for the backward, which computes
each block a second time (flash attention's trade, arXiv:2205.14135).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

WAYS = ("gather", "chunked", "ring")


class Items(NamedTuple):
    """One side of the pairs.

    Attributes:
      embeds: pytree of [n, ...], differentiated.
      labels: pytree of [n, ...], not differentiated.
    """

    embeds: Any
    labels: Any = ()


class Terms(NamedTuple):
    """What a block gives its rows, or its columns: tuples of [n], by how blocks merge.

    `max` carries no gradient. A block without entries has `jnp.finfo(float32).min` where there is
    no neutral element that a gradient survives.
    """

    logsumexp: tuple[jax.Array, ...] = ()
    sum: tuple[jax.Array, ...] = ()
    max: tuple[jax.Array, ...] = ()


BlockFn = Callable[[Any, Items, Items], tuple[Terms, Terms]]


def reduce_pairs(
    block: BlockFn,
    scalars: Any,
    rows: Items,
    columns: Items,
    *,
    axes: tuple[str, ...] = (),
    way: str = "gather",
    chunk: int = 1024,
) -> tuple[Terms, Terms]:
    """Reduces over all pairs. Called inside `shard_map` with this device's rows and columns.

    Args:
      block: (scalars, rows, some columns) -> (terms of the rows, terms of the columns). Closes over
        no arrays.
      scalars: pytree of float32 scalars, differentiated; the same on all devices.
      rows, columns: b items of each.
      axes: mesh axes that the batch is split over; () where these are all items.
      way: see above. All give the same values and gradients.
      chunk: columns of a block at most; their number's largest divisor up to it is taken.

    Returns:
      Terms of the b rows over all columns, and of the b columns over all rows.
    """
    if way != "gather":
        scalars = _vary(scalars, axes)  # Each device adds up a gradient of its own.
    if way == "ring":
        return _stream(block, axes, chunk, axes, scalars, rows, columns)
    everywhere = _together(lambda x: gather(x, axes), columns)
    if way == "gather":
        by_row, by_column = block(scalars, rows, everywhere)
    else:
        by_row, by_column = _stream(block, axes, chunk, (), scalars, rows, everywhere)
    return by_row, _reduce_scatter(by_column, axes) if axes else by_column


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _stream(block, axes, chunk, ring, scalars, rows, columns):
    """Blocks in sequence: `chunk` of the columns at hand, then those of the next device in `ring`.

    The columns travel around the ring together with what they have gathered, and are home again
    after as many hops as there are devices.
    """
    columns = _cut(columns, chunk)
    pieces = len(jax.tree.leaves(columns)[0])
    first = jax.tree.map(lambda x: x[0], columns)
    row_shapes, column_shapes = jax.eval_shape(block, scalars, rows, first)
    row_terms = _vary(_neutral(row_shapes), axes)
    column_terms = _vary(_neutral(column_shapes, pieces), axes)

    def hop(carry, _):
        row_terms, column_terms, columns = carry
        following = _pass_on(columns, ring)  # Does not wait for the blocks.

        def piece(row_terms, xs):
            columns, column_terms = xs
            by_row, by_column = block(scalars, rows, columns)
            return _merge(row_terms, by_row), _merge(column_terms, by_column)

        row_terms, column_terms = lax.scan(piece, row_terms, (columns, column_terms))
        return (row_terms, _pass_on(column_terms, ring), following), None

    carry = (row_terms, column_terms, columns)
    (row_terms, column_terms, _), _ = lax.scan(hop, carry, length=_size(ring))
    return row_terms, _join(column_terms)


def _stream_forward(block, axes, chunk, ring, scalars, rows, columns):
    totals = _stream(block, axes, chunk, ring, scalars, rows, columns)
    return totals, (scalars, rows, columns, totals)


def _stream_backward(block, axes, chunk, ring, saved, cotangents):
    """The gradients of columns travel with them, as their results did."""
    scalars, rows, columns, (row_totals, column_totals) = saved
    row_cotangents, column_cotangents = cotangents
    zeros = lambda tree: _vary(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree), axes)
    travelling = _cut((columns, column_totals, column_cotangents), chunk)
    gradients = zeros(travelling[0].embeds)

    def hop(carry, _):
        totals, travelling, gradients = carry
        following = _pass_on(travelling, ring)

        def piece(totals, xs):
            (columns, column_totals, column_cotangents), gradient = xs

            def terms(scalars, row_embeds, column_embeds):
                return block(
                    scalars,
                    Items(row_embeds, rows.labels),
                    Items(column_embeds, columns.labels),
                )

            (by_row, by_column), pull = jax.vjp(terms, scalars, rows.embeds, columns.embeds)
            *d_here, d_columns = pull(
                (
                    _block_cotangent(row_cotangents, by_row, row_totals),
                    _block_cotangent(column_cotangents, by_column, column_totals),
                )
            )
            return _add(totals, tuple(d_here)), _add(gradient, d_columns)

        totals, gradients = lax.scan(piece, totals, (travelling, gradients))
        return (totals, following, _pass_on(gradients, ring)), None

    carry = (zeros((scalars, rows.embeds)), travelling, gradients)
    ((d_scalars, d_rows), _, d_columns), _ = lax.scan(hop, carry, length=_size(ring))
    return d_scalars, Items(d_rows, None), Items(_join(d_columns), None)


_stream.defvjp(_stream_forward, _stream_backward)


def _merge(a: Terms, b: Terms) -> Terms:
    return Terms(
        tuple(map(jnp.logaddexp, a.logsumexp, b.logsumexp)),
        tuple(map(jnp.add, a.sum, b.sum)),
        tuple(map(jnp.maximum, a.max, b.max)),
    )


def _block_cotangent(cotangent: Terms, block: Terms, total: Terms) -> Terms:
    """d total / d block: a block's share of the exponentials, 1, and nothing."""
    share = lambda g, part, whole: g * jnp.exp(part - whole)
    return Terms(
        tuple(map(share, cotangent.logsumexp, block.logsumexp, total.logsumexp)),
        cotangent.sum,
        jax.tree.map(jnp.zeros_like, block.max),
    )


def _neutral(shapes: Terms, *leading: int) -> Terms:
    fill = lambda value: lambda s: jnp.full((*leading, *s.shape), value, s.dtype)
    least = jnp.finfo(jnp.float32).min
    return Terms(
        jax.tree.map(fill(-jnp.inf), shapes.logsumexp),
        jax.tree.map(fill(0), shapes.sum),
        jax.tree.map(fill(least), shapes.max),
    )


def _reduce_scatter(terms: Terms, axes: tuple[str, ...]) -> Terms:
    """Merges [N] terms of all devices and keeps this device's [b]. One maximum, one sum."""
    exponents = len(terms.logsumexp)

    def own(x):
        size = x.shape[1] // lax.axis_size(axes)
        return lax.dynamic_slice_in_dim(x, lax.axis_index(axes) * size, size, axis=1)

    highest = lax.pmax(lax.stop_gradient(jnp.stack(terms.logsumexp + terms.max)), axes)
    shifted = tuple(map(lambda x, shift: jnp.exp(x - shift), terms.logsumexp, highest))
    highest = own(highest)
    sums = ()
    if shifted + terms.sum:
        stacked = jnp.stack(shifted + terms.sum)
        sums = lax.psum_scatter(stacked, axes, scatter_dimension=1, tiled=True)
    return Terms(
        tuple(shift + jnp.log(total) for shift, total in zip(highest, sums[:exponents])),
        tuple(sums[exponents:]),
        tuple(highest[exponents:]),
    )


def gather(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """[b, ...] of each device -> [N, ...] on all of them; as it is where there are no axes."""
    return lax.all_gather(x, axes, tiled=True) if axes else x


def _pass_on(tree: Any, ring: tuple[str, ...]) -> Any:
    """[pieces, width, ...] leaves to the next device."""
    if not ring:
        return tree
    size = lax.axis_size(ring)
    pairs = [(device, (device + 1) % size) for device in range(size)]
    return _together(lambda x: lax.ppermute(x, ring, pairs), tree, leading=2)


def _together(move: Callable, tree: Any, leading: int = 1) -> Any:
    """Moves a tree of [n, ...] with one collective per dtype, since most leaves are small.

    Many independent collectives also starve each other where several devices share a processor's
    threads (XLA's CPU back end), up to a standstill.
    """
    leaves, structure = jax.tree.flatten(tree)
    moved = list(leaves)
    for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):
        places = [place for place, leaf in enumerate(leaves) if leaf.dtype == dtype]
        flat = [leaves[place].reshape(*leaves[place].shape[:leading], -1) for place in places]
        ends = np.cumsum([x.shape[-1] for x in flat])[:-1]
        parts = jnp.split(move(jnp.concatenate(flat, -1)), ends, axis=-1)
        for place, part in zip(places, parts):
            trailing = leaves[place].shape[leading:]
            moved[place] = part.reshape(*part.shape[:leading], *trailing)
    return jax.tree.unflatten(structure, moved)


def _size(axes: tuple[str, ...]) -> int:
    return lax.axis_size(axes) if axes else 1


def _cut(tree: Any, chunk: int) -> Any:
    """[n, ...] -> [pieces, n / pieces, ...]."""
    size = len(jax.tree.leaves(tree)[0])
    width = max(d for d in range(1, min(chunk, size) + 1) if size % d == 0)
    return jax.tree.map(lambda x: x.reshape(size // width, width, *x.shape[1:]), tree)


def _join(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def _add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def _vary(tree: Any, axes: tuple[str, ...]) -> Any:
    """Marks what is equal on all devices as theirs, one by one (`shard_map` keeps account)."""
    return lax.pcast(tree, axes, to="varying")
