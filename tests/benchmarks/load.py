# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""How long a checkpoint takes to load, beside transformers, and how much host memory.

    python tests/benchmarks/load.py [FOLDER] [--runs=5]
    python tests/benchmarks/load.py --llama=32

A run is a fresh process, from its start to the moment when every parameter has been read once
(their sum): imports count. Both take turns. FOLDER is a CLIP in transformers' form; by default a
ViT-L/14 (428 M float32 parameters) with random weights is written into a temporary folder.

Memory is what is anonymous (not a mapped file) at its peak, sampled every 2 ms, less the bytes of
the parameters as placed; beside it the bound of design: 1.3 times the largest stacked leaf.

With --llama, memory only, of a LLaMA in bfloat16 and in shards, with 7B's shapes and so many layers
(32 are the 7B: 13.5 GB of disk, 17 GB of memory).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OURS = """
import json, sys, threading, time
start = float(sys.argv[2])
peak, done = [0], threading.Event()
def watch():
    while not done.wait(0.002):
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith("RssAnon"))
        peak[0] = max(peak[0], int(line.split()[1]) * 1024)
if len(sys.argv) > 3:
    threading.Thread(target=watch, daemon=True).start()
import jax, numpy as np, jvlm
m = jvlm.load(sys.argv[1], dtype=sys.argv[4] if len(sys.argv) > 4 else None)
total = sum(float(np.asarray(p).sum(dtype=np.float64)) for p in jax.tree.leaves(m.params))
seconds = time.time() - start
done.set()
leaves = jax.tree.leaves_with_path(m.params)
sizes = {jax.tree_util.keystr(path): leaf.nbytes for path, leaf in leaves}
stacked = max(size for path, size in sizes.items() if "blocks" in path)
extra = peak[0] - sum(sizes.values())
print(json.dumps(dict(seconds=seconds, total=total, extra=extra, bound=1.3 * stacked)))
"""
THEIRS = """
import json, sys, time
import torch
from transformers import CLIPModel
model = CLIPModel.from_pretrained(sys.argv[1])
total = sum(float(p.sum(dtype=torch.float64)) for p in model.parameters())
print(json.dumps(dict(seconds=time.time() - float(sys.argv[2]), total=total)))
"""


def run(code: str, *arguments: str) -> dict:
    command = [sys.executable, "-c", code, arguments[0], str(time.time()), *arguments[1:]]
    out = subprocess.run(command, capture_output=True, text=True)
    if out.returncode:
        sys.exit(out.stderr)
    return json.loads(out.stdout.splitlines()[-1])


def write_l14(folder: Path) -> None:
    """A ViT-L/14 with random weights, in transformers' form."""
    import jax

    from jvlm import sharding
    from jvlm.models import build_model
    from jvlm.pretrained import Pretrained, Processor

    model = build_model({"name": "clip", "variant": "ViT-L/14-quickgelu"})
    params = jax.jit(lambda rng: model.init(rng, model.dummy_batch(1))["params"])(jax.random.key(0))
    steps = (("resize_center_crop", {"size": 224}),)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    Pretrained(model, params, Processor(steps, None), mesh, "clip").export(folder)


def write_llama(folder: Path, layers: int) -> None:
    """A LLaMA with random bfloat16 weights, a few layers to a file, and an index."""
    import dataclasses

    import jax
    import ml_dtypes
    import numpy as np

    from jvlm import paths
    from jvlm.convert import HF_FAMILIES
    from jvlm.convert.engine import OPS, plan
    from jvlm.convert.files import write_safetensors
    from jvlm.models.towers.llama import VARIANTS, Llama

    cfg = dataclasses.replace(VARIANTS["llama-7b"], depth=layers)
    family, model = HF_FAMILIES["llama"], Llama(cfg)
    params = jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(1))["params"]
    shapes = {}
    for path, (rule, stacked, keys) in plan(family.rules(cfg), paths.flatten(params)).items():
        leaf = paths.flatten(params)[path].shape
        shape = OPS[rule.op].source_shape(leaf[1:] if stacked else leaf)
        shapes |= dict.fromkeys(keys, shape)
    rng = np.random.default_rng(0)
    make = lambda shape: rng.standard_normal(shape, np.float32).astype(ml_dtypes.bfloat16) / 64
    names, files, count = sorted(shapes), {}, 10
    for i in range(count):
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        part = names[i::count]
        tensors = [(key, shapes[key], lambda s=shapes[key]: make(s)) for key in part]
        write_safetensors(folder / file, tensors, ml_dtypes.bfloat16)
        files |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    (folder / "config.json").write_text(json.dumps(family.to_hf(cfg)))


def tell_memory(memory: dict) -> None:
    print(f"memory beyond the parameters {memory['extra'] / 2**20:.0f} MiB", end=", ")
    print(f"bound {memory['bound'] / 2**20:.0f} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--llama", type=int, metavar="LAYERS")
    args = parser.parse_args()
    if args.llama:
        with tempfile.TemporaryDirectory() as folder:
            write_llama(Path(folder), args.llama)
            tell_memory(run(OURS, folder, "watch", "bfloat16"))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder
        if folder is None:
            folder = str(Path(temporary) / "l14")
            write_l14(Path(folder))
        ours, theirs = [], []
        for _ in range(args.runs + 1):  # The first pair only warms the page cache.
            ours.append(run(OURS, folder))
            theirs.append(run(THEIRS, folder))
        assert abs(ours[0]["total"] / theirs[0]["total"] - 1) < 1e-6, "other parameters were read"
        memory = run(OURS, folder, "watch")
    median = lambda runs: statistics.median(r["seconds"] for r in runs[1:])
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(ours[1:], theirs[1:])]
    print(f"jvlm {median(ours):.2f} s, transformers {median(theirs):.2f} s", end="; ")
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    tell_memory(memory)


if __name__ == "__main__":
    main()
