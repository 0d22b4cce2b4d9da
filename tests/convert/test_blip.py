# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BLIP's files: LAVIS's, those that we write as the official code does, and transformers'."""

import json

import jax
import numpy as np
import pytest

import jvlm
from jvlm import sharding
from jvlm.convert import blip, open_published, pickled
from jvlm.convert.files import Safetensors
from jvlm.errors import UserError
from jvlm.models import MODELS, build_model
from jvlm.pretrained import Pretrained, Processor, abstract_params
from tests import published_shapes, recorded
from tests.convert.test_albef import GOLDEN, WORDS, read, write
from tests.convert.test_golden import load

HF = {
    "hf_blip_answers": ("logits",),
    "hf_blip_captions": ("logits",),
    "hf_blip_pairs": ("image_embeds", "text_embeds", "itm_logits"),
}
LAVIS = {
    "coco_caption_base": ("logits",),
    "coco_retrieval": ("image_embeds", "text_embeds", "itm_logits"),
    "nlvr": ("logits",),
    "okvqa": ("logits",),
}
# What a miniature's weights do not tell.
HEADS = {"num_heads": 2}
SPECIAL = HEADS | {"eos_id": 2}


def overrides(name):
    text = HEADS if name == "nlvr" else SPECIAL
    return {"vision": HEADS, "text": text} | ({"decoder": SPECIAL} if name == "okvqa" else {})


def lavis(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        golden = dict(file)
    part = lambda name: {k.removeprefix(name): v for k, v in golden.items() if k.startswith(name)}
    batch = {k: v.astype(np.int32) if v.dtype == np.int64 else v for k, v in part("batch/").items()}
    return golden, part("before/"), batch


@pytest.mark.parametrize("name", ("captioner", "nlvr", "pretrain", "retrieval", "vqa"))
def test_export_is_the_official_file(name, tmp_path):
    """Every tensor comes back with its bits: weights, averages, queues, what is stored twice."""
    before = recorded.read(f"blip_{name}")["before"]
    towers = ("vision", "text", "decoder") if name == "vqa" else ("vision", "text")
    heads = dict.fromkeys(towers, HEADS)
    m = jvlm.load(write(tmp_path / "x.pth", before), config=heads)
    m.export(tmp_path / "out", format="blip")
    after = read(tmp_path / "out" / "blip.pth")
    assert after.keys() == before.keys()
    for key, value in before.items():
        assert after[key].dtype == value.dtype and after[key].shape == value.shape, key
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    again = open_published(tmp_path / "out")  # It says how many heads there are.
    assert (again.config, again.preprocess) == (m.config, m.processor.steps)
    assert again.cleaning == m.processor.cleaning and again.max_len == m.processor.tokenizer.max_len


@pytest.mark.parametrize("name", LAVIS)
def test_files_of_lavis(name, tmp_path):
    """What LAVIS computes, and the same file again."""
    golden, before, batch = lavis(f"lavis_blip_{name}")
    m = jvlm.load(write(tmp_path / "x.pth", before), variant="lavis", config=overrides(name))
    assert m.processor(text=["a b"])["text"][0, :5].tolist() == [1, 5, 6, 2, 0]
    if name == "nlvr":
        batch["image"] = np.stack([batch["image"], batch["image"][::-1]], axis=1)
    out = jax.jit(m.model.apply)({"params": m.params}, batch)
    rows = batch["decoder_text"] != 0 if name == "okvqa" else slice(None)
    rows = batch["text_mask"] if "caption" in name else rows
    for key in LAVIS[name]:
        np.testing.assert_allclose(getattr(out, key)[rows], golden[key][rows], atol=1e-5)
    if "caption" in name:
        prompt = {"image": batch["image"], "text": np.tile(np.array([1, 5, 6]), (6, 1))}
        ids = m.generate_ids(prompt, max_new_tokens=9, min_new_tokens=2)
        np.testing.assert_array_equal(ids, golden["ids"])
    m.export(tmp_path / "out", format="blip")
    after = read(tmp_path / "out" / "blip.pth")
    for key, value in before.items():
        if key != "queue_ptr":  # BLIP's retrieval has `ptr_queue`.
            np.testing.assert_array_equal(after[key], value, err_msg=key)
    if name != "coco_retrieval":
        assert after.keys() == before.keys()


@pytest.mark.parametrize("name", HF)
def test_files_of_transformers(name, tmp_path):
    """What transformers computes; written again, the same files."""
    golden, part, m = load(name, tmp_path)
    batch = part("batch/")
    out = jax.jit(m.model.apply)({"params": m.params}, batch)
    mask = batch.get("decoder_mask", batch["text_mask"])
    for key in HF[name]:
        rows = mask if key == "logits" else slice(None)
        error = np.abs(getattr(out, key) - golden[key]) / np.maximum(1, np.abs(golden[key]))
        assert error[rows].max() <= (1e-4 if key == "logits" else 1e-5)
    m.export(tmp_path / "out")
    written = Safetensors([tmp_path / "out" / "model.safetensors"])
    before = part("tensor/")
    assert written.shapes.keys() == before.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(written.read(key), value, err_msg=key)
    again = open_published(tmp_path / "out")
    assert again.config == m.config and again.preprocess == m.processor.steps
    # Where transformers 5 keeps it.
    old = tmp_path / "out" / "preprocessor_config.json"
    section = {"image_processor": json.loads(old.read_text()), "processor_class": "BlipProcessor"}
    old.with_name("processor_config.json").write_text(json.dumps(section))
    old.unlink()
    assert open_published(tmp_path / "out").preprocess == m.processor.steps


TOWER = dict(width=8, depth=2, num_heads=1, mlp_dim=16)
VISION = dict(image_size=16, patch_size=8, norm_eps=1e-6, patch_bias=True, pre_norm=False)
VISION |= dict(norm_tokens=True, **TOWER)
V = len(WORDS) + 2


def text(**uses):
    ids = dict(bos_id=V - 2, enc_id=V - 1, eos_id=102)
    return dict(vocab_size=V, max_len=8, memory_width=8, **ids, **TOWER, **uses)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """(a pretraining model with random weights, our file of it)."""
    model = build_model(dict(name="blip", vision=VISION, text=text(), embed_dim=4))
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    rng = np.random.default_rng(0)
    draw = lambda x: rng.normal(size=x.shape).astype(np.float32)
    params = jax.tree.map(draw, abstract_params(model, mesh))
    average = jax.tree.map(draw, {k: params[k] for k in ("vision", "vision_proj", "text_proj")})
    queues = {name: draw(np.zeros((6, 4))) for name in ("image", "text")} | {"pointer": 4}
    processor = Processor((("resize_square", dict(size=16)),), None)
    momentum = lambda: (average, queues)
    m = Pretrained(model, params, processor, mesh, "blip", momentum=momentum)
    folder = tmp_path_factory.mktemp("pretrained") / "out"
    m.export(folder, format="blip")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    (folder / "config.json").rename(folder / "ours.json")  # As if it were not ours.
    return m, folder / "blip.pth"


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_pretraining_file(pretrained):
    """What encoder and decoder share is there twice; the average and the queues come back."""
    m, path = pretrained
    again = jvlm.load(path)
    assert again.config == m.config
    same(again.params, m.params)
    tensors = read(path)
    for key in (
        "embeddings.word_embeddings.weight",
        "encoder.layer.1.crossattention.self.key.bias",
    ):
        shared = tensors[f"text_encoder.{key}"], tensors[f"text_decoder.bert.{key}"]
        np.testing.assert_array_equal(*shared)
    own = "encoder.layer.1.attention.self.key.weight"
    assert (tensors[f"text_encoder.{own}"] != tensors[f"text_decoder.bert.{own}"]).any()
    average, queues = again.momentum()
    want, kept = m.momentum()
    for name, tree in want.items():
        same(average[name], tree)
    same(average["text"]["blocks"]["attn"], m.params["text"]["blocks"]["attn"])
    assert "decoder_attn" not in average["text"]["blocks"]  # It has none.
    assert {k: np.asarray(v).tolist() for k, v in queues.items()} == {
        **{k: np.asarray(v).tolist() for k, v in kept.items() if k != "pointer"},
        "pointer": [4],
        "filled": 6,
    }


def test_pretraining_file_read_for_a_task(pretrained, tmp_path):
    m, path = pretrained
    params = m.params
    captioner = jvlm.load(path, variant="captioner")
    assert captioner.config.prompt == "a picture of "
    assert captioner.processor.tokenizer.max_len == 8
    mine = captioner.params["text"]
    for part in ("embed", "words"):
        same(mine[part], params["text"][part])
    same(mine["blocks"], {k: params["text"]["blocks"][k] for k in mine["blocks"]})
    assert "attn" not in mine["blocks"] and captioner.momentum() == (None, {})
    retrieval, itm = (jvlm.load(path, variant=task) for task in ("retrieval", "itm"))
    assert (retrieval.config.text.enc_id, itm.config.text.enc_id) == (V - 1, None)
    assert "decoder_attn" not in retrieval.params["text"]["blocks"]
    assert retrieval.momentum()[0] is not None
    answers = jvlm.load(path, variant="vqa")
    same(answers.params["decoder"]["blocks"], mine["blocks"])
    same(answers.params["text"]["blocks"], itm.params["text"]["blocks"])
    # Questions lose what captions have spaces for (data/utils.py); LAVIS leaves more words.
    lavis = jvlm.load(path, variant="lavis")
    given = ["A (red) dog, isn't it?", 60 * "word "]
    cleaned = [m.processor.clean(given) for m in (retrieval, answers, lavis)]
    assert [c[0] for c in cleaned] == [
        *("a red dog, isn't it?", "a red dog, isn't it?", "a red dog, isn't it?"),
    ]
    assert [len(c[1].split()) for c in cleaned] == [30, 50, 50]
    captioner.export(tmp_path / "hf")
    assert open_published(tmp_path / "hf").config == captioner.config
    for read_as in (retrieval, answers, m):
        with pytest.raises(UserError, match="puts .ENC. before them: load it with config="):
            read_as.export(tmp_path / "x")
    with pytest.raises(UserError, match="cannot express text/decoder=True"):
        jvlm.load(path, config={"text": {"enc_id": None}}).export(tmp_path / "x")
    with pytest.raises(UserError, match="variant 'caption' of BLIP is unknown, choose from orig"):
        jvlm.load(path, variant="caption")
    captioner.export(tmp_path / "own", format="blip")
    with pytest.raises(
        UserError, match="'vqa' reads a pretraining file of BLIP, not blip_captioner"
    ):
        jvlm.load(tmp_path / "own", variant="vqa")


def test_copies_must_be_copies(pretrained, tmp_path):
    """A file whose encoder and decoder went apart is no pretraining model, but a captioner."""
    tensors = read(pretrained[1])
    key = "text_decoder.bert.encoder.layer.0.output.dense.weight"
    tensors[key] = tensors[key] + 1
    path = write(tmp_path / "x.pth", tensors)
    with pytest.raises(
        UserError, match=f"{key} is not text_encoder.encoder.*; variant='captioner' or 'retr"
    ):
        jvlm.load(path)
    m = jvlm.load(path, variant="captioner")
    kernel = m.params["text"]["blocks"]["mlp"]["down"]["kernel"][0]
    np.testing.assert_array_equal(kernel.T, tensors[key])


PUBLISHED = {
    "model_base": ("blip", "base"),
    "model_large": ("blip", "large"),
    "model_large_retrieval_coco": ("blip", "large@384"),
    "model_base_caption_capfilt_large": ("blip_captioner", "base@384"),
    "model_base_vqa_capfilt_large": ("blip_vqa", "base@480"),
    "model_base_nlvr": ("blip_classifier", "nlvr@384"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_tensor_is_written(name):
    kind, variant = PUBLISHED[name]
    cfg = MODELS[kind][2][variant]
    module = MODELS[kind][0](cfg)
    params = jax.eval_shape(module.init, jax.random.key(0), module.dummy_batch(1))["params"]
    weights, copies = pickled.lay_out(blip.FAMILY, cfg, params, np.float32, None, {})
    shapes = {key: tuple(entry.shape) for key, entry in weights.items()}
    shapes |= {key: shapes[original] for key, original in copies.items()}
    assert shapes == published_shapes.read("blip")[name].tensors


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(architectures=["BlipModel"]), "class 'BlipModel': jvlm reads BlipForConditionalGen"),
        (dict(architectures=None), "no class in architectures: jvlm reads BlipForConditionalGen"),
        (dict(text_config=dict(is_decoder=False)), "is_decoder False: jvlm has only True"),
        (
            dict(architectures=["BlipForQuestionAnswering"], vision_config=dict(hidden_size=1536)),
            "questions of width 768 as to images of width 1536",
        ),
    ],
)
def test_other_classes_of_transformers_are_refused(tmp_path, change, message):
    config = {"architectures": ["BlipForConditionalGeneration"], "model_type": "blip", **change}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        jvlm.load(tmp_path)


def test_command_line(pretrained, tmp_path, call):
    """Inspect, import as a captioner, export as transformers'."""
    file, own, hf = pretrained[1], tmp_path / "own", tmp_path / "hf"
    status, out, _ = call("inspect", file, "--variant", "captioner", "--json")
    facts = json.loads(out)
    told = [facts[key] for key in ("model", "code", "problems")]
    assert (status, told) == (0, ["blip_captioner", "blip", "none"])
    assert call("import", file, own, "--variant", "captioner")[0] == 0
    assert call("export", own, hf)[0] == 0
    assert open_published(hf).model == "blip_captioner"
    assert call("export", file, tmp_path / "x", "--format", "albef")[2].endswith(
        "format 'albef' has no blip: export with format='blip'\n"
    )
