# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""A CLIP of 0.43 B parameters (ViT-L/14) from scratch on two cards of 24 GB.

    jvlm train --config=configs/clip/small_gpu.py:data=cc12m --workdir=runs/clip_l14

Batch, rate, decay and warm-up are those of open_clip's models on CC12M and YFCC-15M from eight GPUs
(docs/PRETRAINED.md: its sample command with lr 5e-4 and 32 epochs); betas and epsilon are the
paper's for a ViT. No figure is published for this size on this data; RN50 has 36.45 % there.

Memory per card, with 427.6 M parameters and mesh.fsdp=2:

  parameters, Adam's two moments, a micro-batch's gradients and
    their sum, all float32                                   5 x 427.6 M x 4 B / 2     4.3 GB
  bfloat16 weights, gathered for the blocks at work           < 427.6 M x 2 B          0.9 GB
  blocks' inputs, all that remat keeps, of 128 pairs
    (24 x 257 x 1,024 + 12 x 77 x 768) x 2 B = 14.1 MB each                            1.8 GB
  one image block in the backward: mlp, attention and probabilities in float32,
    about 257 x (2 x 4,096 + 8 x 1,024) x 2 B + 2 x 16 x 257^2 x 4 B = 17 MB each      2.2 GB

About 9 GB by hand. XLA's figure for the step compiled for two CPU devices, which hold most bfloat16
activations in float32, is 14.3 GB (2.65 arguments, 11.65 temporaries). Not run on such cards. The
batch of 1,024 is four micro-batches of 256, which cost memory only: their embeddings are cached
(GradCache), so that each pair is contrasted with all 1,024, at the price of a second forward.

Arguments: data, a TFDS name; vocab, OpenAI's vocabulary file.
"""

from configs import common, contrastive


def get_config(arg=""):
    arg = common.parse_arg(arg, data="cc12m", vocab="bpe_simple_vocab_16e6.txt.gz")
    augment = contrastive.random_part
    c = contrastive.clip(arg, "ViT-L/14", batch_size=1_024, augment=augment)
    c.steps = 342_766  # 32 epochs of 10,968,539 pairs (open_clip README.md, CC12M).
    c.compute.remat = "full"
    c.objective.update(dict(way="chunked", chunk=256, accumulate="cached"))
    c.optim.update(dict(lr=5e-4, b2=0.98, eps=1e-6, warmup_steps=10_000, accumulate=4))
    c.optim.weight_decay = contrastive.decay(0.1)
    c.mesh.update(dict(data=1, fsdp=-1))
    return contrastive.shrink(c) if arg.test else c
