# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What ALBEF starts from, as the official scripts do it: DeiT and BERT; its own checkpoints."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jvlm
from jvlm import paths, sharding, warm_start
from jvlm.convert import albef as table
from jvlm.convert import engine, timm
from jvlm.convert.files import Shapes
from jvlm.errors import UserError
from jvlm.layers import resize_positions
from jvlm.models import build_model
from jvlm.models.vit import VARIANTS
from jvlm.objectives.albef import ALBEF
from jvlm.objectives.answers import Answers
from jvlm.objectives.classification import Classification
from jvlm.pretrained import abstract_params
from jvlm.state import TrainState
from tests.convert.test_albef import recorded, write
from tests.models.test_albef import MODEL, VQA
from tests.recorded import Arrays

RESIZE = (("resize_positions", {}),)
POSITIONS = ("vision/pos", "start", "vision/pos", RESIZE)
PRETRAIN = (
    ("vision/pos", "deit", "vision/pos", RESIZE),
    ("(vision/.*)", "deit", r"\1", ()),
    ("text/(embed/.*)", "bert", r"\1", ()),
    ("text/(blocks/.*)", "bert", r"\1", (("layers", {"select": ":2"}),)),
    ("fusion/(blocks/(?!cross).*)", "bert", r"\1", (("layers", {"select": "2:"}),)),
    ("(words/.*)", "bert", r"\1", ()),
)
RETRIEVAL = (POSITIONS, ("(.*)", "start", r"\1", ()))
ENTAILMENT = (POSITIONS, ("((vision|text|fusion)/.*)", "start", r"\1", ()))
PAIRS = ENTAILMENT  # From text assignment's checkpoint.
ANSWERS = (
    *ENTAILMENT,
    ("decoder/(blocks/.*)", "start", r"fusion/\1", ()),
    ("decoder/(embed/.*)", "start", r"text/\1", ()),
    ("decoder/(words/.*)", "start", r"\1", ()),
)
TEXT_ASSIGNMENT = (
    POSITIONS,
    ("((vision|text|vision_proj)/.*)", "start", r"\1", ()),
    ("fusion/blocks/shared_attn/(.*)", "start", r"fusion/blocks/cross_attn/\1", ()),
    ("fusion/blocks/(?:first|second)/(.*)", "start", r"fusion/blocks/\1", ()),
)
SIDE, DEPTH = 32, 2  # Of the images, and of the texts alone; the official scripts have 6.


def classifier(**fields):
    section = {key: MODEL[key] for key in ("vision", "text")}
    return dict(name="albef_classifier", fusion_depth=2, **section, **fields)


def retrieval_names(state):
    """Retrieval.py, VE.py, Grounding.py."""
    return {key.replace("bert.", ""): value for key, value in state.items()}


def answers_names(state):
    """VQA.py."""
    renamed = {}
    for key, value in state.items():
        renamed[key.replace("bert.", "")] = value
        if "text_encoder" in key:
            layer = re.search(r"layer\.(\d+)", key)
            if layer and int(layer[1]) < DEPTH:
                continue
            own = key.replace(layer[0], f"layer.{int(layer[1]) - DEPTH}") if layer else key
            renamed[own.replace("text_encoder", "text_decoder")] = value
    return renamed


def pairs_names(state):
    """Pretrain_nlvr.py."""
    renamed = {}
    for key, value in state.items():
        key, layer = key.replace("bert.", ""), re.search(r"layer\.(\d+)", key)
        if not layer or int(layer[1]) < DEPTH:
            renamed[key] = value
            continue
        first = (int(layer[1]) - DEPTH) * 2 + DEPTH
        for number in (first, first + 1):
            renamed[key.replace(layer[0], f"layer.{number}")] = value
    return renamed


def fresh_state(model, objective):
    """Zeros, on one device."""
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    zeros = lambda tree: jax.tree.map(
        lambda x: jax.device_put(jnp.zeros(x.shape, x.dtype), x.sharding), tree
    )
    params = zeros(abstract_params(model, mesh))
    teacher = objective.init_teacher(params) if objective else None
    extra = {"image": jnp.zeros((12, 4)), "text": jnp.zeros((12, 4)), "pointer": jnp.int32(0)}
    extra["filled"] = jnp.int32(0)
    return TrainState(0, params, {}, teacher, None, zeros_like(extra), (), None)


def zeros_like(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def resized(table, old, new):
    return np.asarray(resize_positions(table[0], old, new, antialias=False))[None]


CASES = {
    "retrieval": (
        {**MODEL, "mlm": False},
        lambda model: ALBEF(model, queue=12, mlm_probability=0.0),
        RETRIEVAL,
        retrieval_names,
        (),
    ),
    "vqa": (VQA, Answers, ANSWERS, answers_names, ()),
    "ve": (
        classifier(num_classes=3),
        Classification,
        ENTAILMENT,
        retrieval_names,
        ("hidden_proj", "class_proj"),
    ),
    "text_assignment": (
        classifier(num_classes=3, num_images=2, head="linear", embed_dim=4),
        None,
        TEXT_ASSIGNMENT,
        pairs_names,
        ("class_proj",),
    ),
}


@pytest.fixture
def start(tmp_path):
    """A pretraining checkpoint of the official code."""
    heads = {part: {"num_heads": 2} for part in ("vision", "text")}
    m = jvlm.load(write(tmp_path / "ALBEF.pth", recorded("pretrain")), config=heads)
    return warm_start.Source(m.params, m.momentum)


@pytest.mark.parametrize("case", CASES)
def test_finetuning_starts_as_the_official_scripts_do(case, start):
    section, objective, rules, rename, heads = CASES[case]
    section = {**section, "vision": {**section["vision"], "image_size": SIDE}}
    model = build_model(section)
    objective = objective and objective(model)
    read = lambda name: {"start": start}[name]
    state, fresh = warm_start.apply(rules, fresh_state(model, objective), read)
    assert sorted(fresh) == sorted(f"{h}/{leaf}" for h in heads for leaf in ("bias", "kernel"))

    official = rename(recorded("pretrain"))
    for m in ("", "_m"):
        pos = f"visual_encoder{m}.pos_embed"
        sides = (2, 2), (SIDE // 8, SIDE // 8)
        official[pos] = np.asarray(resize_positions(official[pos][0], *sides, antialias=False))[
            None
        ]
    trees = {False: state.params} | ({True: state.teacher} if objective else {})
    for momentum, tree in trees.items():
        kept = {p: x for p, x in paths.flatten(tree).items() if p not in fresh}
        mesh = sharding.make_mesh(devices=jax.devices()[:1])
        shapes = sharding.placed(paths.unflatten(kept), mesh)
        want = engine.load(Arrays(official), table.rules(model.cfg, momentum), (".*",), shapes)
        for path, value in paths.flatten(want).items():
            np.testing.assert_array_equal(kept[path], value, err_msg=path)
    if case == "retrieval":  # Retrieval.py loads the queues too.
        np.testing.assert_array_equal(state.extra["image"].T, official["image_queue"])
        assert state.extra["pointer"] == official["queue_ptr"].item()
        assert state.extra["filled"] == 12  # Else 'fixed' would leave them out.


def test_pairs_start_from_text_assignment(start):
    """NLVR.py loads all but the head; its average, which the file has not, starts as the weights.

    There it starts as the weights were before the file was loaded.
    """
    section = classifier(num_classes=3, num_images=2, head="linear", embed_dim=4)
    assigned, _ = warm_start.apply(
        TEXT_ASSIGNMENT, fresh_state(build_model(section), None), lambda _: start
    )
    model = build_model(classifier(num_classes=2, num_images=2))
    read = lambda _: warm_start.Source(assigned.params)
    state, fresh = warm_start.apply(PAIRS, fresh_state(model, Classification(model)), read)
    assert {path.partition("/")[0] for path in fresh} == {"hidden_proj", "class_proj"}
    for part in ("vision", "text", "fusion"):
        jax.tree.map(np.testing.assert_array_equal, state.params[part], assigned.params[part])
        jax.tree.map(np.testing.assert_array_equal, state.teacher[part], assigned.params[part])


def deit(folder, arrays):
    """The image tower of a checkpoint as DeiT is published: with a head, in a training state."""
    own = "visual_encoder."
    tower = {k.removeprefix(own): v for k, v in arrays.items() if k.startswith(own)}
    head = {"head.weight": np.zeros((10, 8), np.float32), "head.bias": np.zeros(10, np.float32)}
    return write(folder / "deit.pth", tower | head)


def test_pretraining_starts_from_deit_and_bert(tmp_path, start):
    tower = dict(width=8, depth=4, num_heads=2, mlp_dim=16)
    bert = build_model(dict(name="bert", vocab_size=24, max_len=8, **tower))
    rng = np.random.default_rng(0)
    draw = lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    words = jax.tree.map(draw, abstract_params(bert, mesh))
    images = jvlm.load(deit(tmp_path, recorded("pretrain")), config={"vision": {"num_heads": 2}})
    sources = {"deit": images.params, "bert": words}
    model = build_model({**MODEL, "vision": {**MODEL["vision"], "image_size": SIDE}})
    read = lambda name: warm_start.Source(sources[name])
    state, fresh = warm_start.apply(PRETRAIN, fresh_state(model, ALBEF(model)), read)
    # The projections, the heads, and how words see the image are new.
    new = {re.sub(r"/(k|q|v|out)/", "/*/", path.rpartition("/")[0] + "/") for path in fresh}
    assert new == {
        *("vision_proj/", "text_proj/", "itm_proj/", "/"),
        *("fusion/blocks/cross_attn/*/", "fusion/blocks/cross_norm/"),
    }
    got, tower = state.params, start.params["vision"]
    want = resized(tower["pos"][None], (2, 2), (4, 4))[0]
    np.testing.assert_array_equal(got["vision"].pop("pos"), want)
    tower.pop("pos")
    jax.tree.map(np.testing.assert_array_equal, got["vision"], tower)
    jax.tree.map(np.testing.assert_array_equal, got["words"], words["words"])
    jax.tree.map(np.testing.assert_array_equal, got["text"]["embed"], words["embed"])
    for name, layers in (("text", slice(2)), ("fusion", slice(2, 4))):
        mine = paths.flatten(got[name]["blocks"])
        for path, stack in paths.flatten(words["blocks"]).items():
            np.testing.assert_array_equal(mine[path], stack[layers], err_msg=path)
    jax.tree.map(np.testing.assert_array_equal, state.teacher["words"], words["words"])


def test_towers_of_timm_and_google(tmp_path):
    """The same weights as timm's folder and as Google's archive; only the folder says the rest."""
    arrays = recorded("pretrain")
    raw = jvlm.load(deit(tmp_path, arrays), config={"vision": {"num_heads": 2}})
    assert raw.processor.steps is None and raw.config.image_mean is None

    folder = tmp_path / "timm"
    folder.mkdir()
    deit(folder, arrays).rename(folder / "pytorch_model.bin")
    about = dict(input_size=[3, 16, 16], crop_pct=0.9, mean=[0.5] * 3, std=[0.25] * 3)
    about |= dict(interpolation="bicubic", crop_mode="center")
    config = dict(architecture="vit_tiny_patch8_16", pretrained_cfg=about)
    (folder / "config.json").write_text(json.dumps(config))
    m = jvlm.load(folder, config={"vision": {"num_heads": 2}})
    jax.tree.map(np.testing.assert_array_equal, m.params, raw.params)
    assert m.processor.steps[0] == ("resize_shortest", dict(size=17, resample="bicubic"))
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    np.testing.assert_allclose(np.linalg.norm(m.embed_images([image])), 1, atol=1e-5)

    blocks = {
        "LayerNorm_0": "norm1",
        "LayerNorm_2": "norm2",
        "MlpBlock_3/Dense_0": "mlp/up",
        "MlpBlock_3/Dense_1": "mlp/down",
        **{
            f"MultiHeadDotProductAttention_1/{theirs}": f"attn/{ours}"
            for theirs, ours in dict(query="q", key="k", value="v", out="out").items()
        },
    }
    flat = paths.flatten(raw.params["vision"])
    google = {"cls": flat["cls"][None], "head/kernel": np.zeros((8, 10))}
    google["Transformer/posembed_input/pos_embedding"] = flat["pos"][None]
    for theirs, ours in {"embedding": "patch", "Transformer/encoder_norm": "final_norm"}.items():
        google |= {f"{theirs}/{k}": v for k, v in raw.params["vision"][ours].items()}
    for theirs, ours in blocks.items():
        for path, value in flat.items():
            if path.startswith(f"blocks/{ours}/"):
                leaf = path.rpartition("/")[2]
                for i in range(2):
                    google[f"Transformer/encoderblock_{i}/{theirs}/{leaf}"] = value[i]
    np.savez(tmp_path / "L_16.npz", **google)
    again = jvlm.load(tmp_path / "L_16.npz")  # Here the heads can be seen.
    assert again.config == raw.config
    jax.tree.map(np.testing.assert_array_equal, again.params, raw.params)
    with pytest.raises(UserError, match="no format has vit by itself"):
        raw.export(tmp_path / "out")
    with pytest.raises(UserError, match="not an archive of numpy"):
        (tmp_path / "x.npz").write_text("no")
        jvlm.load(tmp_path / "x.npz")
    np.savez_compressed(tmp_path / "x.npz", a=np.arange(99))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    begin = content.index(b"a.npy") + 30
    content[begin : begin + 30] = b"?" * 30
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match="not an archive of numpy"):
        jvlm.load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "variant, parameters",
    # timm's counts without the head for 1000 classes.
    [("B/16", 86_567_656 - 769_000), ("L/16", 304_326_632 - 1_025_000)],
)
@pytest.mark.parametrize("first", ["cls_token", "opt/target/Transformer/encoder_norm/scale"])
def test_published_towers_at_full_size(variant, parameters, first):
    """Their shapes tell what they are, with timm's names and with Google's."""
    cfg = VARIANTS[variant]
    model = build_model(dict(name="vit", variant=variant))
    params = jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(1))["params"]
    assert paths.count(params) == parameters
    rules = timm.rules(Shapes("x", {first: ()}))
    shapes = {key: shape for key, shape, _ in engine.store(rules, params)}
    assert first in shapes
    assert timm.config_from_tensors(Shapes("x", shapes)) == cfg
