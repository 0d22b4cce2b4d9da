# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What ALBEF's recipes share (salesforce/ALBEF b9727e4: configs/*.yaml, dataset/__init__.py).

All were trained on 8 GPUs, by AdamW with torch's coefficients and a decay of 0.02, and so are they
here: a GPU's rows are `negatives` or `group` consecutive rows of the batch, and an epoch is as many
steps as the sources' loaders give. Computed in bfloat16, where the sources have float32. Mesh:
parameters, teacher and optimizer are split over all devices.

Arguments of every recipe:

  data    folder of the prepared data sets, whose names the recipe tells; default TFDS's
  image_root  folder of the pictures, where the data sets were imported with --link: those of
          SNLI-VE and VQA are stored many times without
  vocab   the vocab.txt of bert-base-uncased
  smooth  the rate changes every step, not by the stairs of the scripts: every 100 steps of the
          warm-up, then once an epoch, so that the last of 5 epochs is 10 % of the way from its end
  fixed   what was meant, where the published code does something else: class token, positions and
          temperature do not decay, RandomAugment does not overflow (`data.augment.augment`), and
          see `objectives.momentum`
"""

from ml_collections import ConfigDict

from configs import common

GPUS = 8
DROPOUT = dict(dropout=0.1, attn_dropout=0.1)  # configs/config_bert.json
TEST_SIZE, TEST_VOCABULARY = 64, 128
PAIR = ("image", "text", "text_mask")
# Captions of the data sets of pretraining; configs/albef/pretrain.py has the sources.
CAPTIONS = dict(coco=567_000, vg=769_000, cc3m=2_950_000, sbu=860_000, cc12m=10_060_000)


def parse_arg(arg: str, **defaults) -> ConfigDict:
    """Reads a recipe's arguments: those of all, and its own."""
    shared = dict(data="", image_root="", vocab="vocab.txt", smooth=False, fixed=False)
    return common.parse_arg(arg, **shared, **defaults)


def recipe(
    arg: ConfigDict,
    *,
    model: dict,
    size: int,
    max_len: int,
    per_gpu: int,
    examples: int,
    epochs: int,
    lr: float,
    end_lr: float,
    warmup: int = 1,
) -> tuple[ConfigDict, int]:
    """Everything but data, objective, starting weights and evaluators; and the steps of an epoch.

    Args:
      arg: from `parse_arg`.
      model: section.
      size: side of the images in pixels.
      max_len: tokens of a text; it begins with [CLS] and has no [SEP].
      per_gpu: rows of a GPU.
      examples: of an epoch.
      epochs, lr, end_lr: of the run.
      warmup: `warmup_epochs` of the source, which are hundreds of steps.
    """
    c = common.base()
    c.model.update(model)
    c.model.text = dict(DROPOUT)
    c.compute.dtype = "bfloat16"
    c.tokenizer = dict(kind="wordpiece", path=arg.vocab, max_len=max_len, sep=False)
    c.preprocess = (("resize_square", dict(size=TEST_SIZE if arg.test else size)),)
    c.data.update(dict(batch_size=GPUS * per_gpu, workers=16))
    # Of each GPU's share, which is filled up, the last batch is dropped if it is not full.
    epoch = -(-examples // GPUS) // per_gpu
    c.steps = epochs * epoch
    c.optim.update(dict(lr=lr, end_lr=end_lr, warmup_lr=1e-5, warmup_steps=100 * warmup))
    if not arg.smooth:
        c.optim.update(dict(warmup_every=100, decay_every=epoch))
    if arg.fixed:
        c.optim.weight_decay = ((".*(kernel|embedding)", 0.02), (".*", 0.0))
    else:  # optim/optim_factory.py: all but biases and what has one axis, the gains of norms.
        c.optim.weight_decay = ((".*(bias|scale)", 0.0), (".*", 0.02))
    c.mesh.update(dict(data=1, fsdp=-1))
    c.checkpoint.update(dict(every_steps=epoch, keep=2))
    c.eval.every_steps = epoch
    return c, epoch


def source(arg: ConfigDict, name: str, split: str) -> dict:
    """A prepared data set in the folder `data`; a tiny one in a test."""
    if arg.test:
        split = "train" if split == "train" else "validation"
        return dict(kind="tfds", name="digit_scenes/tiny", split=split, data_dir=None)
    linked = dict(image_root=arg.image_root) if arg.image_root else {}
    return dict(kind="tfds", name=name, split=split, data_dir=arg.data or None, **linked)


def augment(arg: ConfigDict, size: int, least: float | None) -> tuple:
    """Transforms of a decoded training image.

    Args:
      arg: from `parse_arg`.
      size: side in pixels.
      least: share of the image that a crop has at least; None is the whole image.
    """
    size = TEST_SIZE if arg.test else size
    crop = ("random_resized_crop", dict(size=size, scale=(least, 1.0)))
    whole = ("resize_square", dict(size=size))
    compat = "fixed" if arg.fixed else "official"
    return (
        whole if least is None else crop,
        ("random_flip", {}),
        ("random_augment", dict(magnitude=7, compat=compat)),
    )


def caption(key: str) -> tuple:
    """Transforms of a caption, a statement, or several of them."""
    clean = ("pre_caption", dict(key=key, variant="albef", max_words=30))
    return (clean, ("tokenize", dict(key=key)))


def pairs(arg: ConfigDict, c: ConfigDict, images: tuple, *, identity: bool) -> None:
    """Trains on images, each with one of its captions, and maybe what says that two are the same.

    Args:
      arg: from `parse_arg`.
      c: the config.
      images: transforms of a decoded one.
      identity: rows have `image_id`.
    """
    same = (("identity", dict(key="meaning" if arg.test else "image_id")),) if identity else ()
    c.data.transforms = (
        ("decode_image", {}),
        *images,
        ("choose", dict(key="captions", out="caption")),
        *caption("caption"),
        *same,
        ("keep", dict(keys=PAIR + ("image_id",) * identity)),
    )


def pretraining_sets(*, large: bool) -> dict[str, int]:
    """Name -> captions of the data sets of 4, or with `large` 14, million images."""
    return {name: count for name, count in CAPTIONS.items() if large or name != "cc12m"}


def mixture(arg: ConfigDict, c: ConfigDict, sets: dict[str, int]) -> None:
    """Trains on several data sets, each with its share of the captions.

    An image is stored once with all of its captions, so shares do not follow from sizes.
    """
    members = {
        name: dict(source=source(arg, name, "train"), weight=float(count))
        for name, count in sets.items()
    }
    if "cc3m" in sets and not arg.test:
        members["cc3m"]["source"]["split"] = "train+validation"
    c.data.mixture = dict(members=members, weights="given")


def retrieval(arg: ConfigDict, c: ConfigDict, name: str, split: str, rerank: int) -> dict:
    """Evaluator: recall among the images of a split and five captions of each."""
    captions = ("take", dict(key="captions", count=3 if arg.test else 5))
    rows = (captions, *caption("captions"), *common.image_rows(c.preprocess, *PAIR[1:]))
    data = dict(source=source(arg, name, split), batch_size=64, transforms=rows)
    return dict(kind="retrieval", rerank=8 if arg.test else rerank, rule="replace", data=data)


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


def classification(arg: ConfigDict, c: ConfigDict, *, name: str, rows, alpha_steps: int) -> None:
    """Trains on statements, evaluates on validation and test.

    Args:
      arg: from `parse_arg`.
      c: the config.
      name: data set, task and first part of the test metrics' names.
      rows: transforms of an image -> transforms of a row.
      alpha_steps: of the objective.
    """
    keep = ("keep", dict(keys=(*PAIR, "label")))
    c.data.source = source(arg, name, "train")
    c.data.transforms = (*rows(augment(arg, c.preprocess[0][1]["size"], 0.5)), keep)
    c.objective = momentum(arg, "classification", alpha_steps=alpha_steps)
    keep = ("keep", dict(keys=(*PAIR, "label", "sentence")))
    for own, split in (("val", "validation"), (name, "test")):
        data = dict(source=source(arg, name, split), batch_size=64)
        data["transforms"] = (*rows(c.preprocess), keep)
        options = dict(task=name, name=own, fields=("sentence",), data=data)
        c.eval.evaluators[own] = dict(kind="classification", **options)
    c.checkpoint.best = "val/accuracy"


def statements(arg: ConfigDict, names: tuple[str, ...], images: tuple) -> tuple:
    """Transforms of rows with a statement and its class.

    Args:
      arg: from `parse_arg`.
      names: of the classes in a test, where they are answers to questions.
      images: those that make `image`.
    """
    if arg.test:
        questions = ("choose", dict(key="questions", out="qa"))
        answers = ("label", dict(key="qa/answer", names=names))
        texts = ("first", dict(key="captions", out="text"))
        images = (questions, answers, texts, *images)
    sentence = ("identity", dict(key="text", out="sentence"))
    return (*images, sentence, *caption("text"))


def start(path: str, *rules: tuple[str, str]) -> tuple:
    """`init` lines of a finetune: (target, source path) pairs, positions resized.

    Args:
      path: the checkpoint.
      *rules: default is every parameter from that of the same path.
    """
    rules = rules or ((r"(.*)", r"\1"),)
    positions = (r"vision/pos", path, r"vision/pos", (("resize_positions", {}),))
    return (positions, *((target, path, origin, ()) for target, origin in rules))


def shrink(c: ConfigDict) -> ConfigDict:
    """The same recipe in miniature, on digit scenes; the weights start fresh."""
    tower = dict(width=32, depth=1, num_heads=2, mlp_dim=64)
    text = dict(tower, vocab_size=TEST_VOCABULARY, max_len=c.tokenizer.max_len, **DROPOUT)
    c.model.vision = dict(tower, image_size=TEST_SIZE)
    c.model.update(dict(text=text, fusion_depth=1))
    if c.model.name == "albef_vqa":
        c.model.decoder = dict(text, memory_width=32, bos_id=3, eos_id=1)
    elif c.model.name == "albef":
        c.model.embed_dim = 32
        c.objective.update(dict(queue=64, negatives=8, mask_id=2, silent_ids=(3,)))
    elif "group" in c.objective:
        c.objective.group = 8
    c.tokenizer = dict(
        kind="sentencepiece",
        model_type="bpe",
        vocab_size=TEST_VOCABULARY,
        max_len=c.tokenizer.max_len,
        start=True,
        end=False,
        train_on=("captions", "questions/question", "questions/answer"),
    )
    c.init = ()
    c.checkpoint.best = None
    # The stairs of four steps.
    c.optim.update(dict(warmup_every=1, decay_every=2) if c.optim.decay_every else {})
    return common.shrink_for_test(c)
