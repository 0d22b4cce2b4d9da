# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What accelerators can do, by their makers' pages: one table."""

from typing import NamedTuple

TERA, GIGA, GIB = 1e12, 1e9, 2**30


class Chip(NamedTuple):
    """One accelerator, as JAX counts devices.

    Attributes:
      name: as in `jvlm plan --topology`.
      kinds: what JAX calls it (`device.device_kind`).
      peak_flops: dense bfloat16 FLOP/s, float32 sums.
      hbm_bytes: capacity that a program may use. TPU: what libtpu's compiler gives out, a little
        less than the chip has; GPU: the card's.
      hbm_bandwidth: bytes/s.
      link_bandwidth: bytes/s that the chip sends to its neighbours, all ports together, one way.
      dcn_bandwidth: bytes/s to other slices, one way; None where the maker does not say.
    """

    name: str
    kinds: tuple[str, ...]
    peak_flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    link_bandwidth: float
    dcn_bandwidth: float | None = None


def _chip(name, kinds, tflops, gib, hbm_gbps, link_gbps, dcn_gbits=None) -> Chip:
    return Chip(
        *(name, kinds, tflops * TERA, int(gib * GIB), hbm_gbps * GIGA, link_gbps * GIGA),
        dcn_bandwidth=dcn_gbits and dcn_gbits * GIGA / 8,
    )


# TPU: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x}; the pages give ICI both ways, half of
# that is here. v4's ICI: 6 links of 50 GB/s (arXiv:2304.01433, table 4). Memory is what libtpu
# 0.0.42 says is available. A tpu7x is two devices, each with half of the page's figures.
# NVIDIA: the data sheets of the A100, H100, H200 and L4; for the RTX 4090 appendix A of the Ada
# architecture's white paper. Figures "with sparsity" and NVLink and PCIe both ways are halved.
CHIPS: tuple[Chip, ...] = (
    _chip("v4", ("TPU v4",), 275, 30.75, 1200, 300),
    _chip("v5e", ("TPU v5 lite", "TPU v5e"), 197, 15.75, 819, 200, 25),
    _chip("v5p", ("TPU v5", "TPU v5p"), 459, 95.74, 2765, 600, 50),
    _chip("v6e", ("TPU v6 lite", "TPU v6e"), 918, 31.25, 1638, 400, 100),
    _chip("tpu7x", ("TPU7x",), 1153.5, 94.75, 3690, 300, 50),
    _chip(
        *("a100-40gb", ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB")),
        *(312, 40, 1555, 300),
    ),
    _chip("a100", ("NVIDIA A100-SXM4-80GB",), 312, 80, 2039, 300),
    _chip("h100", ("NVIDIA H100 80GB HBM3",), 989.4, 80, 3350, 450),
    _chip("h200", ("NVIDIA H200",), 989.4, 141, 4800, 450),
    _chip("l4", ("NVIDIA L4",), 121, 24, 300, 32),
    _chip("rtx4090", ("NVIDIA GeForce RTX 4090",), 165.2, 24, 1008, 32),
)


def find(device_kind: str) -> Chip | None:
    """The chip that JAX calls so; None for others, and for CPUs."""
    return next((chip for chip in CHIPS if device_kind in chip.kinds), None)
