# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The published recipes in miniature: each kind trains, and stages start where others ended."""

import functools
import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

import jvlm
from jvlm import config as config_lib
from jvlm import paths, pretrained, sharding
from jvlm.data.mixture import Mixture
from jvlm.data.pipeline import TrainBatches
from jvlm.data.sources import build_source
from jvlm.data.transforms import compose
from jvlm.errors import UserError
from jvlm.evaluators import build_evaluators
from jvlm.models import MODELS, build_model
from jvlm.models.blip import BLIPVQA, BLIPCaptioner
from jvlm.optim import make_optimizer
from jvlm.report import make_texts
from jvlm.step import batch_shapes, build_step
from jvlm.tokenizers import MAKERS
from jvlm.train import build_data, make_tokenizer
from jvlm.warm_start import OPS
from tests.generation.test_caption import make as make_blip
from tests.test_config import RECIPES

# One of each kind; the rest differ in numbers, and test_every_recipe_shrinks builds them.
KINDS = ["clip/siglip_b16:test", "clip/small_gpu:test"]


def run(spec, workdir, *overrides):
    config = jvlm.load_config(spec, ["steps=2", "checkpoint.every_steps=2", *overrides])
    return config, jvlm.train(config, workdir)


def leaves(workdir):
    return paths.flatten(pretrained.load(workdir, step="latest").params)


@pytest.mark.parametrize("spec", KINDS)
def test_two_steps(spec, tmp_path):
    _, report = run(spec, tmp_path)
    assert report["steps"] == 2 and np.isfinite(report["metrics"]["val/loss"])
    m = jvlm.load(tmp_path)
    embeds = m.embed_text(["a red seven"]) @ m.embed_images([np.zeros((48, 60, 3), np.uint8)]).T
    assert abs(embeds.item()) <= 1.0


class Tokens:
    """In place of a run's tokenizer, which is not made here."""

    pad_id = 0

    def __init__(self, section):
        self.max_len = section.max_len

    def encode(self, text, **options):
        return [1]

    def __call__(self, texts, **options):
        ids = np.ones((len(texts), self.max_len), np.int32)
        return ids, ids > 0


@pytest.mark.parametrize("path", RECIPES)
def test_every_recipe_shrinks(path):
    """Its data too: training rows are what the model takes, and is planned; its evaluators fit."""
    config, mesh = config_lib.load(f"{path}:test"), sharding.make_mesh(8)
    training = build_step(config, mesh)
    assert paths.count(training.shapes) < 500_000
    assert all(e.data.batch_size == 16 for e in config.eval.evaluators.values())
    if "vision" not in config.model:
        return
    build_evaluators(
        config.eval.evaluators.to_dict(),
        model=training.model,
        objective=training.objective,
        tokenizer=Tokens(config.tokenizer),
        preprocess=config.preprocess,
        mesh=mesh,
    )
    source = build_data(config.data.to_dict(), seed=0)
    chain = source.compose if isinstance(source, Mixture) else compose
    transform = chain(config.data.transforms, tokenizer=Tokens(config.tokenizer))
    batch = TrainBatches(source, transform, 2, seed=0)[0]
    del batch["_bad"]
    planned = batch_shapes(config, training.model)
    assert {k: (v.shape[1:], v.dtype) for k, v in planned.items()} == {
        k: (v.shape[1:], v.dtype) for k, v in batch.items()
    }


@pytest.mark.parametrize("path", RECIPES)
def test_every_recipe_reads_its_data(path):
    """At full size: the options of the tokenizer and of all image and text steps exist."""
    config = config_lib.load(path)
    section = config.tokenizer.to_dict()
    kind = section.pop("kind")
    section = {k: v for k, v in section.items() if k not in ("train_on", "train_examples")}
    config_lib.check_call(MAKERS[kind], section, where=path, given=("texts",))
    cfg = build_model(config.model.to_dict()).cfg
    assert section["max_len"] <= getattr(cfg, "text", cfg).max_len
    parts = [config.data, *(e.data for e in config.eval.evaluators.values())]
    parts += (config.data.get("mixture") or {}).get("members", {}).values()
    for part in parts:
        compose(part.get("transforms", ()), tokenizer=object(), where=path)


@pytest.mark.parametrize("spec", ["lm/digits:test", "lm/digits:test,t5"])
def test_a_model_of_text_alone(spec, tmp_path):
    """Trains on rows as they are planned, reports without a picture, loads, is evaluated again."""
    config = jvlm.load_config(spec, ["steps=2", "checkpoint.every_steps=2", "optim.accumulate=2"])
    source = build_source(config.data.source.to_dict())
    tokenizer = make_tokenizer(config, tmp_path, source)
    row = compose(config.data.transforms, tokenizer=tokenizer)(source[0], np.random.default_rng(0))
    planned = batch_shapes(config, build_model(config.model.to_dict()))
    assert {k: (v.shape[1:], v.dtype) for k, v in planned.items()} == {
        k: (v.shape, v.dtype) for k, v in row.items()
    }
    report = jvlm.train(config, tmp_path)
    assert not (tmp_path / "samples.png").exists()
    text = (tmp_path / "report.md").read_text()
    assert "captions/perplexity" in text and text.count("? | ") == 12  # Questions and answers.
    config.eval.texts.prompt = "{question}"
    with pytest.raises(UserError, match="eval.texts.prompt: no 'question'"):
        make_texts(config)
    metrics = jvlm.evaluate(tmp_path)
    assert metrics.keys() == report["metrics"].keys()
    for name, value in metrics.items():
        np.testing.assert_allclose(value, report["metrics"][name], rtol=1e-5)
    assert 2 < metrics["answers/perplexity"] < 1000
    m = jvlm.load(tmp_path)
    assert m.processor(text=["is there a one?"])["text"].shape == (1, 24)
    assert m.describe().startswith(config.model.name)
    with pytest.raises(UserError, match="embeds nothing"):
        m.embed_text(["a"])
    with pytest.raises(UserError, match="takes no images"):
        jvlm.load(tmp_path, image_size=32)


def test_the_stages_of_chinese_clip(tmp_path):
    """The first leaves the image tower as it was; the second starts as the first ended."""
    config, _ = run("chinese_clip/stage1:test", tmp_path / "1")
    fresh = build_step(config, sharding.make_mesh(8)).init(jax.random.key(config.seed))
    frozen, one = paths.flatten(fresh.frozen), leaves(tmp_path / "1")
    assert {p for p in one if p.startswith("vision")} == frozen.keys()
    for path, leaf in frozen.items():
        np.testing.assert_array_equal(one[path], np.asarray(leaf, np.float32), err_msg=path)

    config = jvlm.load_config("chinese_clip/stage2:test", ["steps=1", "optim.lr=0.0"])
    config.init = jvlm.load_config(f"chinese_clip/stage2:stage1={tmp_path / '1'}").init
    jvlm.train(config, tmp_path / "2")
    two = leaves(tmp_path / "2")
    for path in one:
        np.testing.assert_array_equal(two[path], one[path], err_msg=path)


STARTS = [
    # Recipe, and what its checkpoints are: source -> (model, variant).
    ("clip/lit:image=A", {"A": ("clip", "ViT-B/16-quickgelu")}),
    (
        "chinese_clip/stage1:image=A,text=B",
        {"A": ("clip", "ViT-B/16-quickgelu"), "B": ("chinese_clip", "ViT-B/16")},
    ),
    ("chinese_clip/muge:model=A", {"A": ("chinese_clip", "ViT-B/16")}),
    # ALBEF's image tower in place of DeiT's, which is like it.
    (
        "albef/pretrain:image=A,text=B",
        {"A": ("albef", "base"), "B": ("bert", "base-uncased")},
        r"fusion/blocks/cross_.*|vision_proj/.*|text_proj/.*|itm_proj/.*|temperature",
    ),
    ("albef/retrieval:start=A", {"A": ("albef", "base")}, ""),
    ("albef/vqa:start=A", {"A": ("albef", "base")}, ""),
    ("albef/ve:start=A", {"A": ("albef", "base")}, r"(hidden|class)_proj/.*"),
    ("albef/nlvr_pretrain:start=A", {"A": ("albef", "base")}, r"class_proj/.*"),
    (
        "albef/nlvr:start=A",
        {"A": ("albef_classifier", "text_assignment")},
        r"(hidden|class)_proj/.*",
    ),
]


STARTS += [
    # BLIP's image tower in place of DeiT's and ViT's, which are like it.
    *(
        (
            f"blip/pretrain:{'large,' if size == 'large' else ''}image=A,text=B",
            {"A": ("blip", size), "B": ("bert", "base-uncased")},
            r"text/blocks/cross_.*|vision_proj/.*|text_proj/.*|itm_proj/.*|temperature",
        )
        for size in ("base", "large")
    ),
    ("blip/retrieval:start=A", {"A": ("blip", "base")}, ""),
    ("blip/retrieval:large,start=A", {"A": ("blip", "large")}, ""),
    ("blip/caption:start=A", {"A": ("blip", "base")}, ""),
    ("blip/caption:large,start=A", {"A": ("blip", "large")}, ""),
    ("blip/vqa:start=A", {"A": ("blip", "base")}, ""),
    (
        "blip/nlvr:start=A",
        {"A": ("blip", "base")},
        r"(hidden|class)_proj/.*|text/merge_blocks/merge_proj/.*",
    ),
]


def shapes(model):
    """Path -> shaped leaf."""
    init = lambda: model.init(jax.random.key(0), model.dummy_batch(1))["params"]
    return paths.flatten(jax.eval_shape(init))


@functools.cache
def published(kind, variant):
    """The same of a published size."""
    return shapes(MODELS[kind][0](MODELS[kind][2][variant]))


@pytest.mark.parametrize("spec, sources, fresh", [(*start, None)[:3] for start in STARTS])
def test_published_checkpoints_fit(spec, sources, fresh):
    """At full size, every parameter with a rule has its source, of the same shape."""
    # Of full size, but one number in memory.
    whole = lambda leaf: np.broadcast_to(np.float32(0), leaf.shape)
    config = jvlm.load_config(spec)
    found = {name: published(*which) for name, which in sources.items()}
    target, used, left = shapes(build_model(config.model.to_dict())), set(), set()
    for path, leaf in target.items():
        number = paths.first_match([(rule[0], None) for rule in config.init], path)
        if number is None:
            left.add(path)
            continue
        used.add(number)
        pattern, source, origin, ops = config.init[number]
        value = whole(found[source][re.fullmatch(pattern, path).expand(origin)])
        for name, options in ops:
            value = OPS[name](value, whole(leaf), **options)
        assert value.shape == leaf.shape, path
    assert used == set(range(len(config.init)))
    if fresh is not None:
        assert left == {path for path in target if re.fullmatch(fresh, path)}


ALBEF = {  # salesforce/ALBEF configs/*.yaml: image_res, batch_size, lr, min_lr, epochs,
    # warmup_epochs; and steps of an epoch.
    "pretrain": (256, 64, 1e-4, 1e-5, 30, 20, 10_050),
    "pretrain:14m": (256, 64, 1e-4, 1e-5, 30, 20, 29_699),
    "retrieval": (384, 32, 1e-5, 1e-6, 5, 1, 2_213),
    "retrieval:flickr": (384, 32, 1e-5, 1e-6, 10, 1, 566),
    "vqa:answers=list.json": (384, 32, 2e-5, 1e-6, 8, 4, 4_465),
    "ve": (384, 32, 2e-5, 1e-6, 5, 1, 2_068),
    "nlvr_pretrain": (256, 64, 2e-5, 1e-5, 1, 1, 10_050),
    "nlvr": (384, 16, 2e-5, 1e-6, 10, 1, 674),
    "grounding": (384, 32, 1e-5, 1e-6, 5, 1, 469),
}


@pytest.mark.parametrize("spec", ALBEF)
def test_albef(spec):
    """What is published is what the recipes say."""
    size, per_gpu, lr, min_lr, epochs, warmup_epochs, epoch = ALBEF[spec]
    c = jvlm.load_config(f"albef/{spec}")
    optim = c.optim
    assert build_model(c.model.to_dict()).cfg.vision.image_size == size
    assert c.data.batch_size == 8 * per_gpu and c.steps == epochs * epoch
    assert (optim.lr, optim.end_lr, optim.warmup_lr) == (lr, min_lr, 1e-5)
    assert (optim.warmup_steps, optim.decay_every) == (100 * warmup_epochs, epoch)
    assert (optim.name, optim.b1, optim.b2, optim.clip_norm) == ("adamw", None, None, None)
    text = c.model.text
    assert (text.dropout, text.attn_dropout, c.tokenizer.sep) == (0.1, 0.1, False)
    objective, steps = c.objective, dict(c.data.transforms)
    if spec != "nlvr_pretrain":
        ramp = 0 if spec == "ve" else epoch
        assert (objective.momentum, objective.alpha, objective.alpha_steps) == (0.995, 0.4, ramp)
    if objective.name == "albef":
        assert (objective.queue, objective.negatives) == (65_536, per_gpu)
    inner = steps.get("each_image", {}).get("steps", c.data.transforms)
    steps |= dict(inner)
    assert steps["random_augment"]["magnitude"] == 7
    crop = steps.get("random_resized_crop", {"scale": (None, 1.0)})
    least = {"grounding": None}.get(spec, 0.2 if size == 256 else 0.5)
    assert crop["scale"] == (least, 1.0) and "random_flip" in steps
    evaluators = c.eval.evaluators
    if "retrieval" in spec:
        assert evaluators.retrieval.rerank == (128 if "flickr" in spec else 256)
    if "vqa" in spec:
        assert (evaluators.vqa.preselect, evaluators.vqa.first_weight) == (128, 2.0)
    smooth = jvlm.load_config(f"albef/{spec}{',' if ':' in spec else ':'}smooth,fixed")
    assert smooth.optim.decay_every is None and smooth.optim.weight_decay[0][1] == 0.02


BLIP = {  # salesforce/BLIP configs/*.yaml: image_size, batch_size, GPUs of README.md, init_lr,
    # max_epoch; and steps of an epoch.
    "pretrain": (224, 75, 8, 3e-4, 20, 25_343),
    "pretrain:129m": (224, 75, 8, 3e-4, 20, 63_676),
    "pretrain:large,paper": (224, 75, 32, 2e-4, 20, 6_335),
    "retrieval": (384, 32, 8, 1e-5, 6, 2_213),
    "retrieval:flickr,large": (384, 16, 8, 5e-6, 6, 1_132),
    "caption": (384, 32, 8, 1e-5, 5, 2_213),
    "caption:large": (384, 16, 8, 2e-6, 5, 4_427),
    "vqa:answers=list.json": (480, 16, 16, 2e-5, 10, 4_465),
    "nlvr": (384, 16, 16, 3e-5, 15, 337),
}


@pytest.mark.parametrize("spec", BLIP)
def test_blip(spec):
    """What is published is what the recipes say."""
    size, per_gpu, gpus, lr, epochs, epoch = BLIP[spec]
    c = jvlm.load_config(f"blip/{spec}")
    kind, objective, steps = spec.partition(":")[0], c.objective, dict(c.data.transforms)
    cfg = build_model(c.model.to_dict()).cfg
    large = "large" in spec
    assert (cfg.vision.image_size, cfg.vision.width) == (size, 1024 if large else 768)
    assert cfg.vision.drop_path == (0.1 if large or kind in ("vqa", "nlvr") else 0)
    assert (cfg.text.dropout, cfg.text.attn_dropout, cfg.text.vocab_size) == (0.1, 0.1, 30524)
    assert c.data.batch_size == per_gpu * gpus and c.steps == epochs * epoch
    rate = make_optimizer({"x": np.zeros(1)}, {"x": True}, c.steps, **c.optim.to_dict()).rate
    got = [float(rate(step)) for step in (3_000, epoch, (epochs - 1) * epoch)]
    if kind == "pretrain":
        factor = 0.85 if "paper" in spec else 0.9
        want = [lr, factor * lr, factor**19 * lr]
        assert float(rate(0)) == pytest.approx(1e-6) and c.optim.end_lr == 1e-6
        assert float(rate(1500)) == pytest.approx((1e-6 + lr) / 2, rel=1e-4)
    else:
        cosine = lambda epoch: lr * (1 + np.cos(np.pi * epoch / epochs)) / 2
        want = [cosine(3_000 // epoch), cosine(1), cosine(epochs - 1)]
        assert float(rate(0)) == pytest.approx(lr)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    assert c.optim.weight_decay == ((".*", 0.05),)
    length = {"pretrain": 30, "retrieval": 35, "caption": 40, "vqa": 35, "nlvr": 64}[kind]
    assert (c.tokenizer.max_len, c.tokenizer.sep) == (length, True)
    if kind in ("pretrain", "retrieval"):
        ramp = epoch * (2 if kind == "pretrain" else 1)
        assert (objective.momentum, objective.alpha, objective.alpha_steps) == (0.995, 0.4, ramp)
        assert (objective.queue, objective.negatives) == (57_600, per_gpu)
        assert objective.queue % c.data.batch_size == 0
    if kind == "retrieval":
        flickr = "flickr" in spec
        assert (objective.drawn_by, objective.same, objective.floor) == ("student", "soft", 0)
        assert objective.drawn_from == ("group" if flickr else "global")
        evaluator = c.eval.evaluators.retrieval
        assert (evaluator.rerank, evaluator.rule) == (128 if flickr else 256, "add")
    if kind == "caption":
        evaluator = c.eval.evaluators.caption
        own = BLIPCaptioner.captioning
        assert evaluator.options.to_dict() == own and evaluator.prompt == cfg.prompt
        assert steps["language"]["prompt"] == cfg.prompt and objective.label_smoothing == 0.1
    if kind == "vqa":
        evaluator = c.eval.evaluators.vqa
        assert (evaluator.preselect, evaluator.label_smoothing) == (128, 0.1)
        written = jvlm.load_config("blip/vqa").eval.evaluators.written.options.to_dict()
        assert written == BLIPVQA.answering
        weights = {m.transforms[0][1]["weight"] for m in c.data.mixture.members.values()}
        assert weights == {1.0, 0.2} and objective.label_smoothing == 0.1
    if kind in ("vqa", "nlvr"):
        assert objective.momentum is None
    if kind == "nlvr":
        swapped = [
            "random_swap_pair" in dict(e.data.transforms) for e in c.eval.evaluators.values()
        ]
        assert swapped == [True, True] and "random_swap_pair" in steps
    inner = dict(steps.get("each_image", {}).get("steps", c.data.transforms))
    assert inner["random_augment"]["magnitude"] == 5 and "random_flip" in inner
    assert inner["random_resized_crop"]["scale"] == (0.2 if kind == "pretrain" else 0.5, 1.0)
    smooth = jvlm.load_config(f"blip/{spec}{',' if ':' in spec else ':'}smooth,fixed")
    assert smooth.optim.weight_decay[0][1] == 0.05 and len(smooth.optim.weight_decay) == 2
    assert (smooth.optim.decay_every is None) == (kind != "pretrain")


@pytest.mark.parametrize("spec", ["blip/nocaps:test", "blip/msrvtt:test,size=16,frames=2"])
def test_evaluations_of_blip(spec, tmp_path):
    """Those that read a published checkpoint, on digit scenes: a scene is a clip of one frame."""
    make_blip("captioner" if "nocaps" in spec else "matcher").save(tmp_path / "m")
    config = config_lib.load(spec)
    metrics = jvlm.evaluate(tmp_path / "m", config, predictions=tmp_path / "found")
    if "nocaps" in spec:
        assert 0 <= metrics["nocaps_validation/cider"] < 10
        for split in ("validation", "test"):
            results = json.loads((tmp_path / f"found/{split}.results.json").read_text())
            assert [row["image_id"] for row in results] == list(range(len(results)))
            assert all(row.keys() == {"image_id", "caption"} for row in results)
        assert metrics["nocaps_test/count"] == len(results) > 10
    else:
        assert 0 <= metrics["retrieval/t2i_r1_rerank"] <= metrics["retrieval/t2i_r10_rerank"] <= 1
        assert metrics["retrieval/t2i_median_rank"] >= 1


def test_pictures_beside_their_data_set(call, tmp_path):
    """As an import with --link leaves them."""
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 30), (200, 100, 0)).save(tmp_path / "pictures/a.jpg")
    said = [dict(image="a", sentence="A dog.", label="neutral")] * 3
    for split in ("train", "dev", "test"):
        (tmp_path / f"ve_{split}.json").write_text(json.dumps(said))
    command = ["data", "import", "albef_ve", tmp_path, tmp_path / "data/snli_ve", "--workers", 1]
    assert call(*command, "--images", tmp_path / "pictures", "--link")[0] == 0
    config = jvlm.load_config(f"albef/ve:data={tmp_path}/data,image_root={tmp_path}/pictures")
    transform = compose(config.data.transforms, tokenizer=Tokens(config.tokenizer))
    batch = TrainBatches(build_data(config.data.to_dict(), seed=0), transform, 2, seed=0)[0]
    assert batch["image"].shape == (2, 384, 384, 3) and batch["label"].tolist() == [1, 1]
    for evaluator in config.eval.evaluators.values():
        assert build_source(evaluator.data.source.to_dict())[0]["image"]


def test_poems(call, tmp_path):
    """What `jvlm data import` makes of CCPC's lines is what the recipe learns."""
    poem = dict(content="春眠不觉晓|处处闻啼鸟|夜来风雨声|花落知多少", keywords="春 花落 风雨")
    poem |= dict(title="春晓", author="孟浩然", dynasty="Tang")
    for split in ("train", "test"):
        lines = [json.dumps(poem, ensure_ascii=False)] * 20
        (tmp_path / f"ccpc_{split}_v1.0.json").write_text("\n".join(lines), encoding="utf-8")
    status, _, _ = call("data", "import", "ccpc", tmp_path, tmp_path / "data/ccpc", "--workers", 1)
    assert status == 0
    config, report = run(f"lm/poems:test,data={tmp_path / 'data'}", tmp_path / "run")
    assert np.isfinite(report["metrics"]["poems/perplexity"])
    m = jvlm.load(tmp_path / "run")
    ids, mask = m.processor.tokenizer(["春眠不觉晓|处处"])
    assert mask.sum() >= 8 and m.processor.tokenizer.decode(ids[0][mask[0]]) == "春眠不觉晓|处处"


def test_pairs_and_questions_as_they_are_imported(call, tmp_path):
    """What `jvlm data import` makes of ALBEF's lists is what NLVR2's and VQA's recipes learn."""
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (40, 30), (200, 100, 0)).save(tmp_path / name)
    asked = dict(image="a.jpg", question="What's this?", question_id=1)
    lists = {
        "nlvr_train": [dict(images=["a.jpg", "b.jpg"], sentence="Left/right.", label="True")],
        "vqa_train": [dict(asked, answer=["a cat"] * 7 + ["cat"] * 3, dataset="vqa")],
        "vqa_val": [dict(asked, answer=["cat"] * 10, dataset="vqa")],
        "vg_qa": [dict(asked, answer="a cat", dataset="vg")],
    }
    for name, rows in lists.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    for kind, name in (("albef_nlvr", "nlvr2"), ("albef_vqa", "vqa")):
        done = call("data", "import", kind, tmp_path, tmp_path / f"data/{name}", "--workers", 1)
        assert done[0] == 0, done
    for recipe in ("nlvr", "vqa"):
        config = jvlm.load_config(f"albef/{recipe}:data={tmp_path / 'data'}")
        source = build_data(config.data.to_dict(), seed=0)
        chain = source.compose if isinstance(source, Mixture) else compose
        transform = chain(config.data.transforms, tokenizer=Tokens(config.tokenizer))
        batch = TrainBatches(source, transform, 16, seed=0)[0]
        assert not batch.pop("_bad")
        planned = batch_shapes(config, build_model(config.model.to_dict()))
        assert {k: v.shape[1:] for k, v in batch.items()} == {
            k: v.shape[1:] for k, v in planned.items()
        }
        if recipe == "nlvr":
            assert set(batch["label"]) == {1}
        else:
            shares = {tuple((10 * row[:2]).round().tolist()) for row in batch["answer_weight"]}
            assert shares == {(7, 3), (10, 0), (5, 0)}
