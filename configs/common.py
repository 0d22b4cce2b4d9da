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
    c.compute = ConfigDict(
        dict(dtype="float32", attention="auto", query_chunk=0, remat="none", unroll=1)
    )
    c.preprocess = ()
    c.data = ConfigDict(dict(workers=0, max_bad_share=0.01))
    c.trainable = ((".*", True),)
    # None, 'int8', 'int4' or a rule list onto them; and None or dict(targets, rank, alpha, ...).
    c.quantise = c.lora = None
    c.optim = ConfigDict(
        dict(
            name="adamw",
            lr=0.0,
            state_dtype="float32",
            # Of the optimizer, jvlm/optim/rules.py; None is its own default.
            b1=None,
            b2=None,
            eps=None,
            momentum=None,
            clip_rms=None,
            weight_decay=((".*", 0.0),),
            lr_scale=((".*", 1.0),),
            clip_norm=None,
            warmup_steps=0,
            schedule="cosine",
            end_lr=0.0,
            warmup_lr=0.0,
            # Steps that a rate is held for; None changes it every step.
            warmup_every=None,
            decay_every=None,
            decay_rate=1.0,
            warmup_begin=1,
            accumulate=1,
        )
    )
    c.ema = ConfigDict(dict(decay=0.0))
    c.mesh = ConfigDict(dict(data=-1, fsdp=1, tensor=1))
    c.checkpoint = ConfigDict(dict(every_steps=1000, keep=3, best=None, best_mode="max"))
    c.log = ConfigDict(dict(every_steps=50, tensorboard=True))
    c.eval = ConfigDict(dict(every_steps=1000, evaluators=ConfigDict()))
    return c


def shrink_for_test(c: ConfigDict) -> ConfigDict:
    """The same recipe in miniature, for a smoke test: `--config=file.py:test`.

    Same code paths, another size: four steps of sixteen scenes of digit_scenes/tiny.
    """
    c.steps = 4
    c.data.batch_size, c.data.workers = 16, 0
    c.optim.warmup_steps = 1
    c.optim.accumulate = min(c.optim.accumulate, 2)  # Sixteen rows on up to eight devices.
    c.checkpoint.every_steps, c.log.every_steps, c.eval.every_steps = 2, 1, 4
    c.mesh.update(dict(data=-1, fsdp=1, tensor=1))
    for evaluator in c.eval.evaluators.values():
        evaluator.data.batch_size = 16
    return c


def image_rows(preprocess, *keys) -> tuple:
    """Transforms of an evaluation that reads images and `keys`."""
    return (("decode_image", {}), *preprocess, ("keep", dict(keys=("image", *keys))))
