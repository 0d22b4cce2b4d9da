# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The pieces that tables are made of: what torch's layers are called and how they lie."""

from jvlm.convert.engine import Rule


def norm(source: str, target: str) -> tuple[Rule, ...]:
    """A LayerNorm."""
    return Rule(f"{source}.weight", f"{target}/scale"), Rule(f"{source}.bias", f"{target}/bias")


def linear(source: str, target: str) -> tuple[Rule, ...]:
    """A Linear with a bias."""
    return (
        Rule(f"{source}.weight", f"{target}/kernel", "linear"),
        Rule(f"{source}.bias", f"{target}/bias"),
    )


def heads(source: str, target: str, part: tuple[int, int] = (0, 1), dot: str = ".") -> tuple:
    """A Linear onto attention heads, or its part of a fused one."""
    return (
        Rule(f"{source}{dot}weight", f"{target}/kernel", "linear", part),
        Rule(f"{source}{dot}bias", f"{target}/bias", "heads", part),
    )


def heads_out(source: str, target: str) -> tuple[Rule, ...]:
    """The Linear that joins the heads."""
    return (
        Rule(f"{source}.weight", f"{target}/kernel", "linear_out"),
        Rule(f"{source}.bias", f"{target}/bias"),
    )


def fused_heads(source: str, target: str) -> tuple[Rule, ...]:
    """torch's MultiheadAttention: q, k and v in one tensor each of weights and biases."""
    parts = [heads(f"{source}.in_proj", f"{target}/{n}", (i, 3), "_") for i, n in enumerate("qkv")]
    return sum(parts, ()) + heads_out(f"{source}.out_proj", f"{target}/out")


def conv_norm(conv: str, bn: str, target_conv: str, target_bn: str) -> tuple[Rule, ...]:
    """A convolution and its BatchNorm."""
    names = dict(weight="scale", bias="bias", running_mean="mean", running_var="var")
    return (
        Rule(f"{conv}.weight", f"{target_conv}/kernel", "conv"),
        *(Rule(f"{bn}.{theirs}", f"{target_bn}/{ours}") for theirs, ours in names.items()),
    )
