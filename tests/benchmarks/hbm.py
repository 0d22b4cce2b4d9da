# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a training step needs of a chip's memory, compiled for a TPU slice that is not there.

    python tests/benchmarks/hbm.py [--batch=512] [--remat=full] [--query_chunk=128] [--way=gather]
        [--optimizer=adamw] [--state_dtype=float32]

The whole step (`step.build_step`: forward, backward, optimizer, metrics) of SigLIP L/16 at 256 px
with 64 tokens, all fully sharded over a v5e 4x4 slice: parameters in float32, by default both of
Adam's moments too, matmuls in bfloat16, images uint8. Needs `pip install 'jvlm[plan]'` and no TPU.
Per chip:

    arguments, temporaries   the compiler's `memory_analysis()`; their sum is the figure. Outputs
                             take the arguments' place, `kept` are those that do not
    peak                     what is alive at once at most, arguments included
    FLOPs                    two per multiply-add of every matmul in the optimised program, loops
                             times their trips, beside what training needs: 6 per parameter of the
                             towers and token (2 forward, 4 backward; no look-ups, norms, biases),
                             12 L T S D for attention; `ratio` is their quotient, the price of
                             rematerialisation
    gathers                  the largest all-gathers: one layer's weights, never a stack's

`--none` compiles the step without rematerialisation too, at a quarter of the batch (the whole does
not fit), and gives its FLOPs per pair, which the analytic ones should be.
"""

import argparse
import json
import re

SIZE, GIB = 256, 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--remat", default="full")
    parser.add_argument("--query_chunk", type=int, default=128)
    parser.add_argument("--way", default="gather")
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--state_dtype", default="float32")
    parser.add_argument("--none", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    from jvlm.topology import get_topology

    devices = get_topology("v5e:4x4").devices
    optim = dict(name=args.optimizer, state_dtype=args.state_dtype)
    options = (args.query_chunk, args.way, optim)
    result = measure(devices, args.batch, args.remat, *options)
    if args.none:
        none = measure(devices, args.batch // 4, "none", *options)
        result["flops_without_remat"] = 4 * none["flops"]
        result["ratio_to_step_without_remat"] = result["flops"] / (4 * none["flops"])
    if args.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        if key.endswith("bytes"):
            value = f"{value / GIB:.3f} GiB"
        elif key.startswith("flops"):
            value = f"{value / 1e12:.2f} T"
        elif key.startswith("ratio"):
            value = f"{value:.3f}"
        print(f"{key:28} {value}")


def measure(devices, batch_size: int, remat: str, query_chunk: int, way: str, optim: dict) -> dict:
    """Compiles the step and reads it."""
    import jax

    from jvlm import paths, sharding
    from jvlm.hlo import Program
    from jvlm.step import batch_shapes, build_step

    mesh = sharding.make_mesh(data=1, fsdp=len(devices), devices=devices)
    config = make_config(batch_size, remat, query_chunk, way, optim)
    training = build_step(config, mesh)
    batch = batch_shapes(config, training.model, mesh)
    with jax.set_mesh(mesh):
        compiled = training.step.lower(training.state, batch).compile()
    memory, program = compiled.memory_analysis(), Program(compiled.as_text())
    arguments, temporaries = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    kept = memory.output_size_in_bytes - memory.alias_size_in_bytes
    flops = program.dot_flops()
    needed = needed_flops(training.model.cfg, paths.flatten(training.shapes))
    needed *= batch_size / len(devices)
    return {
        "step": f"SigLIP L/16-{SIZE}, batch {batch_size}, {len(devices)} x {devices[0].device_kind}"
        f", remat {remat}, query_chunk {query_chunk}, {way}, {' '.join(optim.values())}",
        "argument_bytes": arguments,
        "temporary_bytes": temporaries,
        "kept_output_bytes": kept,
        "total_bytes": arguments + temporaries + kept,
        "peak_bytes": memory.peak_memory_in_bytes,
        "flops": flops,
        "flops_needed": needed,
        "ratio": flops / needed,
        "gathers": [shape for shape, _ in program.gathers()[:5]],
    }


def make_config(batch_size: int, remat: str, query_chunk: int, way: str, optim: dict):
    from configs import common

    c = common.base()
    c.steps = 1000
    c.model.update(dict(name="siglip", variant=f"L/16-{SIZE}"))
    c.objective = dict(name="contrastive", kind="sigmoid", way=way, max_scale=None)
    c.compute.update(dict(dtype="bfloat16", remat=remat, query_chunk=query_chunk))
    c.data.batch_size = batch_size
    c.optim.update(dict(optim, lr=1e-3, b2=0.95))
    c.optim.weight_decay = ((".*(kernel|embedding|pos)", 1e-4), (".*", 0.0))
    return c


def needed_flops(cfg, shapes) -> float:
    """Matmul FLOPs of forward and backward for one pair."""

    def tower(name, tower, tokens):
        total = 12 * tower.depth * tokens**2 * tower.width
        for path, leaf in shapes.items():
            if path.startswith(f"{name}/") and path.endswith("kernel"):
                # Pooling has one query: only its keys and values are of all tokens.
                one = "/pool/" in path and not re.fullmatch(".*/(k|v)/kernel", path)
                total += 6 * leaf.size * (1 if one else tokens)
        return total

    rows, columns = cfg.vision.grid
    return tower("vision", cfg.vision, rows * columns) + tower("text", cfg.text, cfg.text.max_len)


if __name__ == "__main__":
    main()
