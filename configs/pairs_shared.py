# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the published recipes of ALBEF and BLIP share: rows of pairs, questions and statements.

Computed in bfloat16, where the sources have float32. Mesh: parameters, teacher and optimizer are
split over all devices. An epoch is as many steps as the sources' loaders give.

Arguments of every recipe:

  data    folder of the prepared data sets, whose names the recipe tells; default TFDS's
  image_root  folder of the pictures, where the data sets were imported with --link: those of
          SNLI-VE and VQA are stored many times without
  vocab   the vocab.txt of bert-base-uncased
  smooth  the rate changes every step, not by the stairs of the scripts
  fixed   what was meant, where the published code does something else: class token, positions and
          temperature do not decay, RandomAugment does not overflow (`data.augment.augment`), and
          see `objectives.momentum`
"""

from ml_collections import ConfigDict

from configs import common

DROPOUT = dict(dropout=0.1, attn_dropout=0.1)  # configs/config_bert.json, configs/med_config.json
TEST_SIZE, TEST_VOCABULARY = 64, 128
TEST_TOWER = dict(width=32, depth=1, num_heads=2, mlp_dim=64)
PAIR = ("image", "text", "text_mask")
CANDIDATES = ("candidates", "candidates_mask", "answer_weight")
# Captions of the data sets of pretraining; configs/albef/pretrain.py has the sources.
CAPTIONS = dict(coco=567_000, vg=769_000, cc3m=2_950_000, sbu=860_000, cc12m=10_060_000)
QUESTIONS = {"train": 443_757, "train+validation": 443_757 + 214_354}  # Of VQA v2.


def parse_arg(arg: str, *, code: str, magnitude: int, **defaults) -> ConfigDict:
    """Reads a recipe's arguments: those of all, and its own.

    Args:
      arg: the command line's.
      code: whose rules clean texts: albef or blip.
      magnitude: of RandomAugment.
      **defaults: the recipe's own arguments.
    """
    shared = dict(data="", image_root="", vocab="vocab.txt", smooth=False, fixed=False)
    arg = common.parse_arg(arg, **shared, **defaults)
    return ConfigDict({**arg, "code": code, "magnitude": magnitude})


def begin(
    arg: ConfigDict,
    *,
    model: dict,
    size: int,
    max_len: int,
    sep: bool,
    per_gpu: int,
    gpus: int,
    examples: int,
    epochs: int,
) -> tuple[ConfigDict, int]:
    """A config without data, objective, optimizer's rates, starting weights and evaluators.

    Args:
      arg: from `parse_arg`.
      model: section.
      size: side of the images in pixels.
      max_len: tokens of a text; it begins with [CLS].
      sep: it ends with [SEP].
      per_gpu, gpus: rows of a GPU, and how many there were.
      examples: of an epoch.
      epochs: of the run.

    Returns:
      (config, steps of an epoch).
    """
    c = common.base()
    c.model.update(model)
    c.model.text = dict(DROPOUT)
    c.compute.dtype = "bfloat16"
    c.tokenizer = dict(kind="wordpiece", path=arg.vocab, max_len=max_len, sep=sep)
    c.preprocess = (("resize_square", dict(size=TEST_SIZE if arg.test else size)),)
    c.data.update(dict(batch_size=gpus * per_gpu, workers=16))
    # Of each GPU's share, which is filled up, the last batch is dropped if it is not full.
    epoch = -(-examples // gpus) // per_gpu
    c.steps = epochs * epoch
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
        ("random_augment", dict(magnitude=arg.magnitude, compat=compat)),
    )


def caption(arg: ConfigDict, key: str, max_words: int = 30) -> tuple:
    """Transforms of a caption, a statement, or several of them."""
    clean = ("pre_caption", dict(key=key, variant=arg.code, max_words=max_words))
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
        *caption(arg, "caption"),
        *same,
        ("keep", dict(keys=PAIR + ("image_id",) * identity)),
    )


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


def retrieval(
    arg: ConfigDict, c: ConfigDict, name: str, split: str, rerank: int, rule: str
) -> dict:
    """Evaluator: recall among the images of a split and five captions of each."""
    captions = ("take", dict(key="captions", count=3 if arg.test else 5))
    rows = (captions, *caption(arg, "captions"), *common.image_rows(c.preprocess, *PAIR[1:]))
    data = dict(source=source(arg, name, split), batch_size=64, transforms=rows)
    return dict(kind="retrieval", rerank=8 if arg.test else rerank, rule=rule, data=data)


def classification(arg: ConfigDict, c: ConfigDict, *, name: str, rows, test_rows=None) -> None:
    """Trains on statements, evaluates on validation and test.

    Args:
      arg: from `parse_arg`.
      c: the config.
      name: data set, task and first part of the test metrics' names.
      rows: transforms of an image -> transforms of a row.
      test_rows: the same of an evaluation, where they differ.
    """
    keep = ("keep", dict(keys=(*PAIR, "label")))
    c.data.source = source(arg, name, "train")
    c.data.transforms = (*rows(augment(arg, c.preprocess[0][1]["size"], 0.5)), keep)
    keep = ("keep", dict(keys=(*PAIR, "label", "sentence")))
    for own, split in (("val", "validation"), (name, "test")):
        data = dict(source=source(arg, name, split), batch_size=64)
        data["transforms"] = (*(test_rows or rows)(c.preprocess), keep)
        options = dict(task=name, name=own, fields=("sentence",), data=data)
        c.eval.evaluators[own] = dict(kind="classification", **options)
    c.checkpoint.best = "val/accuracy"


def statements(
    arg: ConfigDict, names: tuple[str, ...], images: tuple, max_words: int = 30
) -> tuple:
    """Transforms of rows with a statement and its class.

    Args:
      arg: from `parse_arg`.
      names: of the classes in a test, where they are answers to questions.
      images: those that make `image`.
      max_words: of a statement.
    """
    if arg.test:
        questions = ("choose", dict(key="questions", out="qa"))
        answers = ("label", dict(key="qa/answer", names=names))
        texts = ("first", dict(key="captions", out="text"))
        images = (questions, answers, texts, *images)
    sentence = ("identity", dict(key="text", out="sentence"))
    return (*images, sentence, *caption(arg, "text", max_words))


def questions(arg: ConfigDict) -> int:
    """Of an epoch of VQA v2 and Visual Genome, whose arguments are `train` and `vg`."""
    if arg.train not in QUESTIONS:
        raise ValueError(f"train={arg.train}: {' or '.join(QUESTIONS)}")
    return QUESTIONS[arg.train] + arg.vg


def answering(arg: ConfigDict, c: ConfigDict, *, vg_weight: float, max_words: int) -> None:
    """Trains on questions of VQA v2 and Visual Genome, with all of their answers.

    Args:
      arg: from `parse_arg`.
      c: the config.
      vg_weight: of an answer of Visual Genome.
      max_words: of a question.
    """
    answers = "qa/answer" if arg.test else "answers"
    c.data.mixture = dict(
        members={
            name: dict(
                source=source(arg, "vqa", split),
                transforms=(
                    *_drawn(arg),
                    ("answers", dict(key=answers, max_len=16, weight=weight)),
                ),
            )
            for name, split, weight in (("vqa", arg.train, 1.0), ("vg", "vg", vg_weight))
        },
        weights="proportional",
    )
    c.data.transforms = (
        ("decode_image", {}),
        *augment(arg, c.preprocess[0][1]["size"], 0.5),
        *_question(arg, max_words),
        ("tokenize", dict(key="question")),
        ("keep", dict(keys=(*PAIR, *CANDIDATES))),
    )


def asked(arg: ConfigDict, c: ConfigDict, ranked: dict, written: dict) -> None:
    """Evaluators of `answering` on the split `eval`, once, at the end.

    Args:
      arg: from `parse_arg`.
      c: the config.
      ranked: how the answers of the argument `answers`, a list's file, are ranked.
      written: how they are written where there is no list.
    """
    hidden = arg.eval == "test"  # Its answers are on a server, which takes the results.
    fields = {} if arg.test else dict(id="question_id")
    if not hidden:
        fields["answers"] = "qa/answer" if arg.test else "answers"
    how = dict(
        task="unscored" if hidden else "exact" if arg.test else "vqa",
        prompt="{question}",
        fields=fields,
        inputs=("image",),
        results=dict(question_id="id", answer="prediction"),
        data=dict(
            source=source(arg, "vqa", arg.eval),
            batch_size=64,
            transforms=(
                *_drawn(arg),
                ("decode_image", {}),
                *c.preprocess,
                *_question(arg, 50),
            ),
        ),
    )
    if arg.answers or arg.test:
        given = ("zero", "one", "two", "red", "yes", "no") if arg.test else arg.answers
        ranked = dict(ranked, kind="rank", name="vqa", candidates=given, kept=10)
        c.eval.evaluators.vqa = dict(how, **ranked)
    if not arg.answers:
        name = "written" if arg.test else "vqa"
        c.eval.evaluators.written = dict(how, kind="generate", name=name, options=written)
    c.eval.every_steps = c.steps


def _drawn(arg: ConfigDict) -> tuple:
    """Transforms of a test, whose images have several questions."""
    return (("choose", dict(key="questions", out="qa")),) if arg.test else ()


def _question(arg: ConfigDict, max_words: int) -> tuple:
    """Transforms that give the cleaned question."""
    found = dict(key="qa/question" if arg.test else "question", out="question")
    return (("pre_question", dict(found, variant=arg.code, max_words=max_words)),)


def start(path: str, *rules: tuple[str, str]) -> tuple:
    """`init` lines of a finetune: (target, source path) pairs, positions resized.

    Args:
      path: the checkpoint.
      *rules: default is every parameter from that of the same path.
    """
    rules = rules or ((r"(.*)", r"\1"),)
    positions = (r"vision/pos", path, r"vision/pos", (("resize_positions", {}),))
    return (positions, *((target, path, origin, ()) for target, origin in rules))


def shrink(c: ConfigDict, tower: dict, **model) -> ConfigDict:
    """The same recipe in miniature, on digit scenes; the weights start fresh.

    Args:
      c: the config.
      tower: shape of the image tower, `TEST_TOWER` or deeper.
      **model: whatever else its section has.
    """
    c.model.vision = dict(tower, image_size=TEST_SIZE)
    c.model.update(model)
    c.tokenizer = dict(
        kind="sentencepiece",
        model_type="bpe",
        vocab_size=TEST_VOCABULARY,
        max_len=c.tokenizer.max_len,
        start=True,
        end=c.tokenizer.sep,
        train_on=("captions", "questions/question", "questions/answer"),
    )
    c.init = ()
    c.checkpoint.best = None
    # The stairs of four steps.
    stairs = dict(warmup_every=c.optim.warmup_every and 1, decay_every=2)
    c.optim.update(stairs if c.optim.decay_every else {})
    return common.shrink_for_test(c)
