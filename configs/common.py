# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What config files share: reading their argument, common sections, shrinking for a smoke test."""

from ml_collections import ConfigDict


def parse_arg(arg: str, **defaults) -> ConfigDict:
    """Reads the part after the colon of `--config=file.py:test,size=64`.

    Args:
      arg: comma-separated `key=value` or `key` (True).
      **defaults: the keys there are; values take their type.

    Raises:
      ValueError: unknown key, or a value of another type.
    """
    values = ConfigDict({"test": False, **defaults})
    for item in filter(None, arg.split(",")):
        key, has_value, text = item.partition("=")
        if key not in values:
            raise ValueError(f"unknown argument {key!r}, this config takes {sorted(values)}")
        kind = type(values[key])
        if kind is bool:
            values[key] = text.lower() in ("", "1", "true", "yes")
        else:
            values[key] = kind(text)
    return values


def base() -> ConfigDict:
    """Every section with neutral values; a recipe changes what it is about."""
    c = ConfigDict()
    c.steps, c.seed = 0, 0
    c.init = ()
    c.model, c.tokenizer, c.objective = ConfigDict(), ConfigDict(), ConfigDict()
    c.compute = ConfigDict(dict(dtype="float32", attention="auto", remat="none", unroll=1))
    c.preprocess = ()
    c.data = ConfigDict(dict(workers=0, max_bad_share=0.01))
    c.trainable = ((".*", True),)
    c.optim = ConfigDict(dict(name="adamw", warmup_steps=0, schedule="cosine", end_lr=0.0, accumulate=1))
    c.ema = ConfigDict(dict(decay=0.0))
    c.mesh = ConfigDict(dict(data=-1, fsdp=1, tensor=1))
    c.checkpoint = ConfigDict(dict(every_steps=1000, keep=3))
    c.log = ConfigDict(dict(every_steps=50, tensorboard=True))
    c.eval = ConfigDict(dict(every_steps=1000, evaluators=ConfigDict()))
    return c
