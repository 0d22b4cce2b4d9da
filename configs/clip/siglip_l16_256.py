# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""SigLIP L/16 at 256 px (0.65 B parameters) on WebLI, as Google trained it.

    jvlm train --config=configs/clip/siglip_l16_256.py:data=my_pairs --workdir=gs://...

Sources and arguments as in siglip_b16.py. Published zero-shot ImageNet: 80.5 % (open_clip
docs/openclip_results.csv).

Mesh: parameters and Adafactor's state, 3.9 GB, are sharded over all devices, and activations are
recomputed: 1.69 GiB a chip at 512 pairs on a v5e 4x4 slice (tests/benchmarks/hbm.py).
"""

from configs import common, contrastive


def get_config(arg=""):
    arg = common.parse_arg(arg, data="webli", vocab="c4_en.model")
    c = contrastive.siglip(arg, "L/16-256", size=256)
    c.compute.update(dict(remat="full", query_chunk=128))
    c.mesh.update(dict(data=1, fsdp=-1))
    return contrastive.shrink(c) if arg.test else c
