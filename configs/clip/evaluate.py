# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Evaluates any checkpoint of the CLIP family on any folder or TFDS data set.

    jvlm evaluate --model=DIR --config=configs/clip/evaluate.py:data=folder:/path/to/val
    jvlm evaluate --model=DIR --config=clip/evaluate:data=tfds:cifar10,templates=cifar10,train=train
    jvlm evaluate --model=DIR \
        --config=clip/evaluate:data=tfds:coco_captions,split=val,templates=,captions=captions/text

Images are prepared by the model's own steps. Arguments:

  data        folder:PATH, with a sub-folder of images for each class, or tfds:NAME
  split       of a TFDS data set
  templates   see jvlm/evaluators/templates.py: a set's name, FILE.json:NAME; empty: no zero-shot
  classes     dataset (its own names), or a file of names
  train       gives a linear probe: the folder, or the TFDS split, that it is fitted on
  C           of the probe: a number (default openai/CLIP README.md's), or sweep (the paper's)
  features    of the probe: embedding (as in openai/CLIP README.md) or pooled (as in the paper)
  captions    gives retrieval: the key of the captions
  per_image   captions that count of each image (5 in the usual protocols of COCO and Flickr30k)
"""

from configs import common

OWN = (("preprocess", {}),)


def get_config(arg=""):
    arg = common.parse_arg(
        arg,
        data="",
        split="test",
        templates="imagenet",
        classes="dataset",
        train="",
        C="0.316",
        features="embedding",
        captions="",
        per_image=5,
        batch_size=256,
    )
    c = common.base()
    kind, _, name = (arg.data or "tfds:digit_scenes/tiny" * arg.test).partition(":")
    if kind not in ("folder", "tfds") or not name:
        raise ValueError("say on what: data=folder:PATH or data=tfds:NAME,split=SPLIT")

    def rows(part, *keys):
        if kind == "folder":
            source = dict(kind="folder", path=part or name, labels=True)
        else:
            source = dict(kind="tfds", name=name, split=part or arg.split, data_dir=None)
        return dict(
            source=source, batch_size=arg.batch_size, transforms=common.image_rows(OWN, *keys)
        )

    evaluators = c.eval.evaluators
    if arg.templates:
        evaluators.zero_shot = dict(
            kind="zero_shot",
            classes=arg.classes,
            templates=arg.templates,
            ensemble="embeddings",
            data=rows("", "label"),
        )
    if arg.train:
        evaluators.linear_probe = dict(
            kind="linear_probe",
            features=arg.features,
            C=arg.C if arg.C == "sweep" else float(arg.C),
            data=rows("", "label"),
            train=rows(arg.train, "label"),
        )
    if arg.captions:
        evaluators.retrieval = dict(kind="retrieval", data=rows("", "text", "text_mask"))
        evaluators.retrieval.data.transforms = (
            ("take", dict(key=arg.captions, count=arg.per_image, out="caption")),
            ("tokenize", dict(key="caption")),
            *evaluators.retrieval.data.transforms,
        )
    return c
