# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What ALBEF's recipes share (salesforce/ALBEF b9727e4: configs/*.yaml, dataset/__init__.py).

All were trained on 8 GPUs, by AdamW with torch's coefficients and a decay of 0.02, and so are they
here: a GPU's rows are `negatives` or `group` consecutive rows of the batch. The scripts' stairs, in
place of which `smooth` changes the rate every step: every 100 steps of the warm-up, then once an
epoch, so that the last of 5 epochs is 10 % of the way from its end. For the arguments of every
recipe see `pairs_shared`.
"""

from ml_collections import ConfigDict

from configs import pairs_shared as shared

GPUS = 8


def parse_arg(arg: str, **defaults) -> ConfigDict:
    """Reads a recipe's arguments."""
    return shared.parse_arg(arg, code="albef", magnitude=7, **defaults)


def recipe(
    arg: ConfigDict, *, per_gpu: int, lr: float, end_lr: float, warmup: int = 1, **options
) -> tuple[ConfigDict, int]:
    """Everything but data, objective, starting weights and evaluators; and the steps of an epoch.

    Args:
      arg: from `parse_arg`.
      per_gpu: rows of a GPU.
      lr, end_lr: of the run.
      warmup: `warmup_epochs` of the source, which are hundreds of steps.
      **options: of `pairs_shared.begin`.
    """
    c, epoch = shared.begin(arg, per_gpu=per_gpu, gpus=GPUS, sep=False, **options)
    c.optim.update(dict(lr=lr, end_lr=end_lr, warmup_lr=1e-5, warmup_steps=100 * warmup))
    if not arg.smooth:
        c.optim.update(dict(warmup_every=100, decay_every=epoch))
    if arg.fixed:
        c.optim.weight_decay = ((".*(kernel|embedding)", 0.02), (".*", 0.0))
    else:  # optim/optim_factory.py: all but biases and what has one axis, the gains of norms.
        c.optim.weight_decay = ((".*(bias|scale)", 0.0), (".*", 0.02))
    return c, epoch


def pretraining_sets(*, large: bool) -> dict[str, int]:
    """Name -> captions of the data sets of 4, or with `large` 14, million images."""
    return {name: count for name, count in shared.CAPTIONS.items() if large or name != "cc12m"}


def momentum(arg: ConfigDict, name: str, *, alpha_steps: int, **options) -> dict:
    """An objective with a teacher that is the student's average."""
    compat = "fixed" if arg.fixed else "official"
    taught = dict(momentum=0.995, alpha=0.4, alpha_steps=alpha_steps, compat=compat)
    return dict(name=name, **taught, **options)


def pair_objective(arg: ConfigDict, alpha_steps: int) -> dict:
    """The objective of retrieval and grounding (models/model_retrieval.py)."""
    return momentum(
        arg,
        "albef",
        alpha_steps=alpha_steps,
        queue=65_536,
        mlm_probability=0.0,
        negatives=32,
        same="soft",
        temperature_range=None,
    )


def shrink(c: ConfigDict) -> ConfigDict:
    """See `pairs_shared.shrink`."""
    tower, length = shared.TEST_TOWER, c.tokenizer.max_len
    text = dict(tower, vocab_size=shared.TEST_VOCABULARY, max_len=length, **shared.DROPOUT)
    model = dict(text=text, fusion_depth=1)
    if c.model.name == "albef_vqa":
        model["decoder"] = dict(text, memory_width=32, bos_id=3, eos_id=1)
    elif c.model.name == "albef":
        model["embed_dim"] = 32
        c.objective.update(dict(queue=64, negatives=8, mask_id=2, silent_ids=(3,)))
    elif "group" in c.objective:
        c.objective.group = 8
    return shared.shrink(c, tower, **model)
