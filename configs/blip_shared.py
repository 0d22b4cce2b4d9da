# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What BLIP's recipes share (salesforce/BLIP 056a169: configs/*.yaml, utils.py, data/__init__.py).

AdamW with torch's coefficients and a decay of 0.05 of every parameter, biases, norms and the
temperature too. Finetunes have a cosine to 0 by stairs of an epoch, without warm-up; `smooth`
changes the rate every step, and with `fixed` kernels and embeddings alone decay (LAVIS leaves out
what has one axis, and biases). A GPU's rows are consecutive rows of the batch. Texts begin with
[CLS], which the model replaces, and end with [SEP]; one that is too long is cut, [SEP] and all,
where the sources keep it. For the arguments of every recipe see `pairs_shared`.
"""

from ml_collections import ConfigDict

from configs import pairs_shared as shared


def parse_arg(arg: str, **defaults) -> ConfigDict:
    """Reads a recipe's arguments."""
    return shared.parse_arg(arg, code="blip", magnitude=5, **defaults)


def recipe(arg: ConfigDict, *, lr: float, gpus: int = 8, **options) -> tuple[ConfigDict, int]:
    """Everything but data, objective, starting weights and evaluators; and the steps of an epoch.

    Args:
      arg: from `parse_arg`.
      lr: in the first epoch.
      gpus: how many there were.
      **options: of `pairs_shared.begin`.
    """
    c, epoch = shared.begin(arg, gpus=gpus, sep=True, **options)
    c.optim.update(dict(lr=lr, end_lr=0.0, decay_every=None if arg.smooth else epoch))
    decay = ((".*(kernel|embedding)", 0.05), (".*", 0.0)) if arg.fixed else ((".*", 0.05),)
    c.optim.weight_decay = decay
    return c, epoch


def alignment(arg: ConfigDict, *, alpha_steps: int, negatives: int, **options) -> dict:
    """The objective of pretraining and of retrieval."""
    compat = "fixed" if arg.fixed else "official"
    taught = dict(momentum=0.995, alpha=0.4, alpha_steps=alpha_steps, queue=57_600, compat=compat)
    return dict(name="blip", negatives=negatives, **taught, **options)


def shrink(c: ConfigDict) -> ConfigDict:
    """See `pairs_shared.shrink`."""
    tower, length, words = shared.TEST_TOWER, c.tokenizer.max_len, shared.TEST_VOCABULARY
    text = dict(tower, vocab_size=words + 2, max_len=length, **shared.DROPOUT)
    uses = dict(text, memory_width=32, bos_id=words, enc_id=words + 1, eos_id=1)
    model = dict(text=uses)
    if c.model.name == "blip":
        model["embed_dim"] = 32
        c.objective.update(dict(queue=64, negatives=8))
    elif c.model.name == "blip_vqa":
        model["decoder"] = uses
    elif c.model.name == "blip_classifier":
        model = dict(text=dict(text, depth=2), merge_from=1, enc_id=words + 1)
    return shared.shrink(c, tower, **model)
