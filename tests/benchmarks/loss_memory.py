# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a contrastive loss needs beside its arguments: compiled temporaries per device.

    python tests/benchmarks/loss_memory.py [--platform=tpu] [--batch=65536] [--chunk=1024]

Loss and gradient for a global batch on 16 devices, compiled and not run: 16 fake CPU devices, or
with `--platform=tpu` a v5e 4x4 slice ahead of time, which needs `pip install 'jvlm[plan]'` and no
TPU.
`plain` writes the loss down on whole arrays, [N, N] logits of both directions, and leaves their
partition over the devices to the compiler.
"""

import argparse

WIDTH = 512
MACHINES = {"cpu": "cpu:16", "tpu": "v5e:4x4"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--platform", choices=MACHINES, default="cpu")
    parser.add_argument("--batch", type=int, default=65_536)
    parser.add_argument("--chunk", type=int, default=1024)
    args = parser.parse_args()

    from jvlm import sharding
    from jvlm.topology import get_topology

    devices = get_topology(MACHINES[args.platform]).devices
    mesh = sharding.make_mesh(devices=devices)

    print(f"{args.batch:,} x {args.batch:,} x {WIDTH}, {len(devices)} x {devices[0].device_kind}")
    print(f"{'loss':8} {'way':8} {'MiB/device':>12} {'of plain':>10}")
    for kind in ("softmax", "sigmoid"):
        ways = ("plain", "gather", "chunked", "ring")
        used = {w: temporaries(loss_fn(kind, w, args.chunk), mesh, args.batch) for w in ways}
        for way, size in used.items():
            share = f"1/{used['plain'] / size:.1f}"
            print(f"{kind:8} {way:8} {size / 2**20:12.1f} {share:>10}", flush=True)


def loss_fn(kind: str, way: str, chunk: int):
    """(image, text, scale, bias) -> loss, on arrays of the whole batch."""
    import jax
    import jax.numpy as jnp

    from jvlm.losses.contrastive import dot, sigmoid_contrastive, softmax_contrastive
    from jvlm.sharding import BATCH_AXES

    def plain(image, text, scale, bias):
        logits = scale * dot(image, text)
        if kind == "softmax":
            by_row, by_column = (jax.nn.log_softmax(logits, axis) for axis in (1, 0))
            return -(jnp.trace(by_row) + jnp.trace(by_column)) / (2 * len(image))
        sign = 2 * jnp.eye(len(image)) - 1
        return -jax.nn.log_sigmoid(sign * (logits + bias)).sum() / len(image)

    def local(image, text, scale, bias):
        options = dict(axes=BATCH_AXES, way=way, chunk=chunk)
        if kind == "softmax":
            return softmax_contrastive(image, text, scale, **options)[0]
        return sigmoid_contrastive(image, text, scale, bias, **options)[0]

    rows, scalar = jax.P(BATCH_AXES), jax.P()
    if way == "plain":
        return plain
    return jax.shard_map(local, in_specs=(rows, rows, scalar, scalar), out_specs=scalar)


def temporaries(loss, mesh, batch: int) -> int:
    """Bytes per device of the compiled loss and gradient."""
    import jax

    from jvlm import sharding

    rows, everywhere = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    embeds = jax.ShapeDtypeStruct((batch, WIDTH), "float32", sharding=rows)
    scalar = jax.ShapeDtypeStruct((), "float32", sharding=everywhere)
    places = (everywhere, (rows, rows, everywhere, everywhere))
    with jax.set_mesh(mesh):
        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)), out_shardings=places)
        compiled = step.lower(embeds, embeds, scalar, scalar).compile()
    return compiled.memory_analysis().temp_size_in_bytes


if __name__ == "__main__":
    main()
