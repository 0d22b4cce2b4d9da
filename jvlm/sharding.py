# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where every array lives: path -> logical axes -> mesh axes, in two tables.

    path pattern                 PARAM_AXES          AXIS_RULES
    vision/blocks/mlp/up/kernel  -> (embed, mlp)     -> (fsdp, tensor)

The mesh has three axes: `data` (replicas), `fsdp` (batch and parameters split alike, ZeRO-3) and
`tensor` (heads and mlp split). Parameters stay plain dicts; nothing is annotated in the models.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jvlm import paths
from jvlm.errors import UserError

MESH_AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

AXIS_RULES: dict[str, tuple[str, ...]] = {
    "batch": BATCH_AXES,
    "replica": ("data",),
    "embed": ("fsdp",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
}

# Sizes that the papers chose without a mesh in mind (30,522 = 2 * 3 * 5087): where the mesh does
# not divide them they are replicated instead of refused.
MAY_REPLICATE = frozenset({"vocab"})

# First match wins; `layers` is prepended for stacked leaves.
PARAM_AXES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r".*attn\d?/q/kernel", ("embed", "heads", None)),
    (r".*attn\d?/q/bias", ("heads", None)),
    (r".*attn\d?/(k|v)/kernel", ("embed", "kv_heads", None)),
    (r".*attn\d?/(k|v)/bias", ("kv_heads", None)),
    (r".*attn\d?/out/kernel", ("heads", None, "embed")),
    (r".*mlp/(up|gate)/kernel", ("embed", "mlp")),
    (r".*mlp/(up|gate)/bias", ("mlp",)),
    (r".*mlp/down/kernel", ("mlp", "embed")),
    (r".*token/embedding", ("vocab", "embed")),
    (r".*lm_head/kernel", ("embed", "vocab")),
    (r".*relative/table", (None, "heads")),
    (r".*(patch|conv(\d|_shortcut))/kernel", (None, None, None, "embed")),
    (r".*pool/attn_(q|k|v)/kernel", ("embed", "heads", None)),
    (r".*pool/attn_(q|k|v)/bias", ("heads", None)),
    (r".*proj/kernel", ("embed", None)),
    (r".*(cls|pos|type|query)", (None, None)),
    (r"logit_(scale|bias)|temperature", ()),
    (r".*(scale|bias|mean|var)", (None,)),
)


def make_mesh(
    data: int = -1, fsdp: int = 1, tensor: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """Builds the device mesh.

    Axes lie along the links of a TPU slice. Of several slices, which a network joins, `data` goes
    across and the other axes stay inside. (Nodes of GPUs carry `fsdp` over their network too.)

    Args:
      data, fsdp, tensor: sizes of the three axes; one of them may be -1, 'what is left'.
      devices: default all.

    Raises:
      UserError: the sizes do not multiply to the number of devices, or slices would share a
        replica.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    free = [name for name, size in sizes.items() if size == -1]
    known = math.prod(size for size in sizes.values() if size != -1)
    if len(free) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise UserError(f"mesh {sizes}: sizes are positive, at most one is -1")
    if free:
        sizes[free[0]] = len(devices) // known
    if math.prod(sizes.values()) != len(devices):
        wanted = " x ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(
            f"mesh {wanted} does not cover {len(devices)} device(s): set mesh.data=-1 or sizes "
            f"whose product is {len(devices)}"
        )
    is_tpu = devices[0].platform == "tpu"
    slices = len({getattr(d, "slice_index", 0) for d in devices}) if is_tpu else 1
    if sizes["data"] % slices:
        raise UserError(
            f"mesh.data {sizes['data']} is not a multiple of {slices} slices: only data crosses "
            f"them, mesh.fsdp x mesh.tensor must divide the {len(devices) // slices} devices of one"
        )
    shape = (sizes["data"] // slices, sizes["fsdp"], sizes["tensor"])
    # An axis may need part of a physical one: 2 x 8 on a 4 x 4 torus.
    make = functools.partial(mesh_utils.create_device_mesh, shape)
    if slices > 1:
        make = functools.partial(mesh_utils.create_hybrid_device_mesh, shape, (slices, 1, 1))
    grid = make(devices=devices, allow_split_physical_axes=True)
    return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def partition_spec(path: str, shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
    """PartitionSpec of one parameter.

    Raises:
      UserError: no row matches, the rank differs, or a mesh axis does not divide a dimension.
    """
    kernel, part = paths.kernel_part(path)
    index = paths.first_match(PARAM_AXES, kernel)
    if index is None:
        raise UserError(f"sharding: no row of PARAM_AXES matches parameter {path}")
    logical = PARAM_AXES[index][1]
    ndim = len(shape) - paths.is_stacked(path)
    if part == "lora_a":  # [*in, r]
        logical = (*logical[: ndim - 1], None)
    elif part == "lora_b":  # [r, *out]
        logical = (None, *logical[len(logical) - ndim + 1 :])
    elif part in ("lora_scale", "lora_dropout"):
        logical = ()
    if paths.is_stacked(path):
        logical = (None, *logical)
    if len(logical) != len(shape):
        raise UserError(f"sharding: {path} has shape {tuple(shape)} but its row says {logical}")
    fits = lambda n, s: part not in ("q", "scale") or s % _pieces(n, mesh) == 0
    logical = (n if n is None or fits(n, s) else None for n, s in zip(logical, shape))
    return PartitionSpec(*(_mesh_axes(path, n, s, mesh) for n, s in zip(logical, shape)))


def tree_shardings(tree: Mapping, mesh: Mesh) -> dict:
    """NamedSharding of every leaf of a parameter-shaped tree."""
    return paths.map_with_path(
        lambda path, leaf: NamedSharding(mesh, partition_spec(path, leaf.shape, mesh)), tree
    )


def placed(shapes: Mapping, mesh: Mesh) -> dict:
    """Shapes of parameters with their shardings."""
    return jax.tree.map(
        lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place),
        shapes,
        tree_shardings(shapes, mesh),
    )


def of_result(fn: Callable, tree: Any, shardings: Any, mesh: Mesh) -> Any:
    """NamedSharding of every leaf of `fn(tree)`, as JAX's sharding in types derives it.

    A leaf of zeros like a parameter lies as the parameter does; without one of its axes, as the
    rest of it does; one that depends on no parameter is replicated.

    Args:
      fn: shape-only, such as the initialisation of an optimizer.
      tree: shaped leaves.
      shardings: of these.
      mesh: of those.
    """
    explicit = mesh.abstract_mesh.update(axis_types=(AxisType.Explicit,) * len(mesh.axis_names))
    place = lambda leaf, at: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=NamedSharding(explicit, at.spec)
    )
    with jax.sharding.use_abstract_mesh(explicit):
        result = jax.eval_shape(fn, jax.tree.map(place, tree, shardings))
    spec = lambda leaf: PartitionSpec() if leaf.sharding is None else leaf.sharding.spec
    return jax.tree.map(lambda leaf: NamedSharding(mesh, spec(leaf)), result)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over `data` and `fsdp`; copies over `tensor`."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def batch_shards(mesh: Mesh) -> int:
    """Number of pieces a batch is split into."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def host_rows(mesh: Mesh, batch_size: int) -> list[int]:
    """Rows of a global batch that this host's devices hold, in order.

    Asked of the sharding, not computed from the process index: where `tensor` spans hosts, several
    of them hold the same rows, and meshes may order devices otherwise than processes.

    Raises:
      UserError: the batch does not divide among the devices.
    """
    shards = batch_shards(mesh)
    if batch_size % shards:
        raise UserError(
            f"batch_size {batch_size} is not a multiple of {shards} devices (mesh.data x mesh.fsdp)"
        )
    places = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    spans = sorted({place[0].indices(batch_size)[:2] for place in places})
    return [row for start, stop in spans for row in range(start, stop)]


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh, batch_size: int) -> dict[str, jax.Array]:
    """Makes global arrays of `batch_size` rows from this host's (`host_rows`)."""
    sharding = batch_sharding(mesh)
    return {
        key: jax.make_array_from_process_local_data(sharding, value, (batch_size, *value.shape[1:]))
        for key, value in batch.items()
    }


def put_whole_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """The same from arrays that every host holds whole."""
    sharding = batch_sharding(mesh)
    return {
        key: jax.make_array_from_callback(value.shape, sharding, value.__getitem__)
        for key, value in batch.items()
    }


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """States how an activation is laid out, by logical axis names; None is unconstrained.

    Does nothing outside a mesh (`jax.set_mesh`). Not for use inside `shard_map`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    unknown = [name for name in names if name is not None and name not in AXIS_RULES]
    if unknown or len(names) != x.ndim:
        raise ValueError(f"constrain{names}: unknown names {unknown} or rank {x.ndim} differs")
    if mesh.empty:
        return x
    spec = PartitionSpec(*(_axes(name) if name else PartitionSpec.UNCONSTRAINED for name in names))
    return jax.lax.with_sharding_constraint(x, spec)


def gather_weights(params: Mapping) -> Mapping:
    """One layer's weights, whole along `fsdp` and still split along `tensor`.

    Says where the all-gather happens. Left to itself the compiler may move activations past split
    weights instead, in steps that hold several copies of them.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not splits_weights():
        return params

    def gather(path, leaf):
        whole = (
            None if axes == "fsdp" else axes for axes in partition_spec(path, leaf.shape, mesh)
        )
        return jax.lax.with_sharding_constraint(leaf, PartitionSpec(*whole))

    return paths.map_with_path(gather, params)


def whole_layers(fn: Callable, path: str, x: jax.Array) -> jax.Array:
    """`fn` of a parameter-shaped array, layer by layer: each layer whole on one device.

    The layers of a stack are dealt out to all devices of the mesh in use (`jax.set_mesh`), so that
    none holds a stack and none does another's work.

    Args:
      fn: works on each layer by itself; keeps the shape.
      path: of the parameter.
      x: shaped and laid out like it.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return fn(x)
    spec = partition_spec(path, x.shape, mesh)
    stages = [spec, PartitionSpec()]
    depth = len(x)
    if paths.is_stacked(path):
        # One mesh axis at a time goes from a weight's axis to the layers', in pieces of equal size:
        # left to find the way by itself, or around padding, the compiler gathers the whole.
        axes = ("fsdp", "tensor", "data")
        stages = [
            PartitionSpec(axes[:n] or None, *(None if s in axes[:n] else s for s in spec[1:]))
            for n in range(len(axes) + 1)
        ]
        x = jnp.pad(x, [(0, -depth % mesh.size), *[(0, 0)] * (x.ndim - 1)])
    for stage in stages:
        x = jax.lax.with_sharding_constraint(x, stage)
    y = fn(x)
    for stage in reversed(stages):
        y = jax.lax.with_sharding_constraint(y, stage)
    return y[:depth]


def splits_weights() -> bool:
    """Whether the mesh in use (`jax.set_mesh`) has parameters in pieces along `fsdp`."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and mesh.shape["fsdp"] > 1


def _axes(name: str) -> str | tuple[str, ...]:
    axes = AXIS_RULES[name]
    return axes[0] if len(axes) == 1 else axes


def _pieces(name: str, mesh: Mesh) -> int:
    return math.prod(mesh.shape[axis] for axis in AXIS_RULES[name])


def _mesh_axes(path: str, name: str | None, size: int, mesh: Mesh):
    if name is None:
        return None
    if size % _pieces(name, mesh) == 0:
        return _axes(name)
    if name in MAY_REPLICATE:
        return None
    axes = " x ".join(f"mesh.{axis}={mesh.shape[axis]}" for axis in AXIS_RULES[name])
    raise UserError(
        f"sharding: {path} has {size} {name}, which {axes} does not divide: choose a divisor of "
        f"{size}"
    )
