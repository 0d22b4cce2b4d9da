# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""BLIP on 14 million images, or with `129m` with LAION as well, from bootstrapped captions.

    for set in coco vg ccs laion; do
      jvlm data import albef json/$set DATA/$set --images IMAGES --resize 400
    done
    jvlm train --config=configs/blip/pretrain.py:129m,data=DATA --workdir=gs://...

coco and vg are ALBEF's lists of human captions, without COCO's test pictures; ccs and laion have
the official ccs_{filtered,synthetic_filtered}.json and laion_{filtered,synthetic_filtered}.json
(`large`: synthetic_filtered_large), or what `jvlm capfilt` makes of web pairs. arXiv:2201.12086
section 3; salesforce/BLIP pretrain.py, configs/pretrain.yaml: 20 epochs of batches of 8 x 75,
224 px, rate 3e-4, warm-up of 3,000 steps from 1e-6 in the first epoch, then times 0.9 an epoch but
not below 1e-6, queue 57,600, momentum 0.995, the teacher's weight 0.4 from the third epoch on, 30
tokens. The image tower starts as DeiT-B/16, or ViT-L/16 of ImageNet-21k; the text as BERT-base,
whose self-attention both the encoder and the decoder begin with. `paper`, by memory of section 4.1:
batches of 2,880 (ViT-L: 2,400) on 32 GPUs, times 0.85 an epoch, ViT-L at 2e-4.

Of LAION's 115 million images an epoch sees a fifth (by memory of the paper; the script rotates its
files). How many captions the filtered lists have is not on record: as many as images is a guess
(`ccs=`, `laion=`; `jvlm data info` counts them). A data set has its share of the pairs; of an image
that has several captions one is drawn.

Arguments: 129m; large; paper; image, the image tower's checkpoint; text, bert-base-uncased; ccs,
laion; eval, a prepared data set of captions on whose split validation retrieval is measured every
epoch (the source measures nothing); and those of `pairs_shared`.
"""

from configs import blip_shared as blip
from configs import pairs_shared as shared

TOWERS = {
    "base": "deit_base_patch16_224-b5f2ef4d.pth",
    "large": "L_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1.npz",
}


def get_config(arg=""):
    arg = blip.parse_arg(
        arg,
        **{"129m": False},
        large=False,
        paper=False,
        image="",
        text="bert-base-uncased",
        ccs=13_870_000,
        laion=115_000_000,
        eval="",
    )
    size = "large" if arg.large else "base"
    sets = {name: shared.CAPTIONS[name] for name in ("coco", "vg")} | dict(ccs=arg.ccs)
    if arg["129m"]:
        sets["laion"] = arg.laion // 5
    c, epoch = blip.recipe(
        arg,
        model=dict(name="blip", variant=size),
        size=224,
        max_len=30,
        per_gpu=(75 if arg.large else 90) if arg.paper else 75,
        gpus=32 if arg.paper else 8,
        examples=sum(sets.values()),
        epochs=20,
        lr=2e-4 if arg.paper and arg.large else 3e-4,
    )
    c.optim.update(
        schedule="exponential",
        decay_rate=0.85 if arg.paper else 0.9,
        decay_every=epoch,
        end_lr=1e-6,
        warmup_steps=3_000,
        warmup_lr=1e-6,
        warmup_begin=0,
    )
    shared.mixture(arg, c, sets)
    shared.pairs(arg, c, shared.augment(arg, 224, 0.2), identity=False)
    per_gpu = c.data.batch_size // (32 if arg.paper else 8)
    c.objective = blip.alignment(arg, alpha_steps=2 * epoch, negatives=per_gpu)
    image, more = arg.image or TOWERS[size], (("extend_vocabulary", {}),)
    c.init = (
        (r"vision/pos", image, r"vision/pos", (("resize_positions", {}),)),
        (r"(vision/.*)", image, r"\1", ()),
        (r"text/(embed/token/.*)", arg.text, r"\1", more),
        (r"text/(words/bias)", arg.text, r"\1", more),
        (r"text/((?:embed|words)/.*)", arg.text, r"\1", ()),
        (r"text/blocks/decoder_(.*)", arg.text, r"blocks/\1", ()),
        (r"text/(blocks/(?!cross).*)", arg.text, r"\1", ()),
    )
    c.checkpoint.every_steps = 2_000
    if arg.eval or arg.test:
        c.eval.evaluators.retrieval = shared.retrieval(arg, c, arg.eval, "validation", 0, "add")
    return blip.shrink(c) if arg.test else c
