# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records what the official code of ALBEF makes of tiny models with random weights.

    python -m tests.parity.make_albef ALBEF    # writes tests/golden/albef_*.npz, shapes/albef.tsv

ALBEF is a clone of salesforce/ALBEF (b9727e4). Its models need transformers 4.x (4.37.2 is the last
that was tried) and timm, of which only a patch embedding is used, so that has a stand-in here.
What is drawn at random (wrong partners, masked words) is given to both.
"""

import functools
import importlib.util
import json
import pathlib
import sys
import tempfile
import types

import numpy as np

from tests import published_shapes
from tests.parity import recording
from tests.parity.recording import GOLDEN, arrays, load_official, shake
from tests.published_shapes import Published

ROWS, LENGTH, VOCAB, SIDE = 6, 7, 24, 16
inputs = functools.partial(recording.inputs, rows=ROWS, length=LENGTH, vocab=VOCAB, side=SIDE)
BERT = dict(
    hidden_size=8,
    num_hidden_layers=4,
    fusion_layer=2,
    num_attention_heads=2,
    intermediate_size=16,
    vocab_size=VOCAB,
    max_position_embeddings=8,
    encoder_width=8,
    layer_norm_eps=1e-12,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    pad_token_id=0,
    hidden_act="gelu",
)


def main(source: str):
    load_official(source)
    full_size()  # First: what follows makes the source's models small.
    pretraining()
    retrieval(source)
    answers()
    classification("ve", 1)
    classification("nlvr", 2)
    text_assignment()


def full_size() -> None:
    """The tensors of the published files, of models without numbers."""
    import torch
    from models import (
        model_nlvr,
        model_pretrain,
        model_pretrain_nlvr,
        model_retrieval,
        model_ve,
        model_vqa,
    )
    from models.xbert import BertForMaskedLM, BertLMHeadModel, BertModel

    for kind in (BertForMaskedLM, BertLMHeadModel, BertModel):
        kind.from_pretrained = classmethod(lambda cls, _, config, **how: cls(config, **how))
    sizes = dict(embed_dim=256, vision_width=768, temp=0.07, momentum=0.995, distill=True)
    sizes |= dict(queue_size=65536, mlm_probability=0.15)
    files = {  # As the README calls them.
        "ALBEF": (model_pretrain, 256),
        "mscoco": (model_retrieval, 384),
        "vqa": (model_vqa, 384),
        "ve": (model_ve, 384),
        "nlvr": (model_nlvr, 384),
        "pretrain_model_nlvr": (model_pretrain_nlvr, 256),
    }
    linspace = torch.linspace  # The source reads its numbers, which tensors without any have not.
    torch.linspace = lambda *args: linspace(*args, device="cpu")
    published = {}
    bert = BERT | dict(hidden_size=768, num_hidden_layers=12, fusion_layer=6)
    bert |= dict(num_attention_heads=12, intermediate_size=3072, vocab_size=30522)
    bert |= dict(max_position_embeddings=512, encoder_width=768)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file, torch.device("meta"):
        json.dump(bert, file)
        file.flush()
        for name, (module, side) in files.items():
            config = sizes | dict(image_res=side, bert_config=file.name)
            given = dict(text_encoder="", tokenizer=None, config=config)
            if name == "ALBEF":
                given["init_deit"] = False
            if name == "vqa":
                given["text_decoder"] = ""
            model = module.ALBEF(**given)
            tensors = {key: tuple(value.shape) for key, value in model.state_dict().items()}
            # Of text assignment, neither the texts' projection nor the temperature is used.
            unused = ("text_proj", "temp") if "pretrain_model" in name else ("_m",)
            count = sum(
                value.numel()
                for key, value in model.named_parameters()
                if not any(key.split(".")[0].endswith(end) for end in unused)
            )
            published[name] = Published("the code's", {}, count, tensors)
    torch.linspace = linspace
    (published_shapes.FOLDER / "albef.tsv").write_text(published_shapes.table(published))


def tiny_vit(**options):
    return recording.tiny_vit(options["img_size"], 8)


def pretraining() -> None:
    import torch
    from models import model_pretrain as official

    official.VisionTransformer = tiny_vit
    official.BertForMaskedLM.from_pretrained = classmethod(lambda cls, _, config: cls(config))
    official.concat_all_gather = lambda x: x
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(BERT, file)
        file.flush()
        config = dict(mlm_probability=0.15, embed_dim=4, image_res=SIDE, vision_width=8)
        config |= dict(bert_config=file.name, temp=0.07, queue_size=12, momentum=0.9)
        tokenizer = types.SimpleNamespace(pad_token_id=0, cls_token_id=1, mask_token_id=3)
        model = official.ALBEF("", tokenizer, config, init_deit=False)
    shake(model)
    rng = np.random.default_rng(0)
    batch = inputs(rng)
    text, mask = batch["text"], batch["text_mask"]
    drawn = (rng.random(text.shape) < 0.4) & mask & (text != 1)
    drawn[0, 1] = True
    batch["masked_text"] = np.where(drawn, 3, text)
    batch["masked_labels"] = np.where(drawn, text, -1)
    for name in ("negative_image", "negative_text"):
        batch[name] = (np.arange(ROWS) + rng.integers(1, ROWS, ROWS)) % ROWS

    draws = [*batch["negative_image"], *batch["negative_text"]]
    torch.multinomial = lambda *_: torch.tensor([draws.pop(0)])
    labels = np.where(drawn, text, -100)
    model.mask = lambda *_, **__: (torch.tensor(batch["masked_text"]), torch.tensor(labels))
    before = arrays(model.state_dict())
    words = types.SimpleNamespace(input_ids=torch.tensor(text), attention_mask=torch.tensor(mask))
    words.attention_mask = words.attention_mask.long()
    losses = model(torch.tensor(batch["image"].transpose(0, 3, 1, 2)), words, alpha=0.3)
    sum(losses).backward()
    record(
        "albef_pretrain",
        batch,
        before,
        model,
        losses=np.array([loss.item() for loss in losses]),
    )


def retrieval(source: str) -> None:
    import torch
    from models import model_retrieval as official

    official.VisionTransformer = tiny_vit
    official.BertModel.from_pretrained = classmethod(
        lambda cls, _, config, **how: cls(config, **how)
    )
    official.concat_all_gather = lambda x: x
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(BERT, file)
        file.flush()
        config = dict(embed_dim=4, image_res=SIDE, vision_width=8, bert_config=file.name)
        config |= dict(temp=0.07, queue_size=12, momentum=0.9, distill=True)
        model = official.ALBEF("", None, config)
    shake(model)
    rng = np.random.default_rng(3)
    batch = inputs(rng)
    batch["image_id"] = np.array([3, 5, 3, 7, 8, 5])  # Two pictures have two captions here.
    other = batch["image_id"][:, None] != batch["image_id"]
    for name in ("negative_image", "negative_text"):
        batch[name] = np.array([rng.choice(np.flatnonzero(row)) for row in other])
    draws = [*batch["negative_image"], *batch["negative_text"]]
    torch.multinomial = lambda *_: torch.tensor([draws.pop(0)])
    model.idx_queue[0, :3] = torch.tensor([5, 9, 3])
    before = arrays(model.state_dict())
    words = types.SimpleNamespace(input_ids=torch.tensor(batch["text"]))
    words.attention_mask = torch.tensor(batch["text_mask"]).long()
    image = torch.tensor(batch["image"].transpose(0, 3, 1, 2))
    grounding(model.eval(), image, words, source)
    model.train()
    losses = model(image, words, 0.3, torch.tensor(batch["image_id"]))
    sum(losses).backward()
    record(
        "albef_retrieval",
        batch,
        before,
        model,
        losses=np.array([loss.item() for loss in losses]),
    )


def grounding(model, image, words, source: str) -> None:
    """Heat maps of every layer as Grounding.py makes them, and what grounding_eval says of some."""
    import torch
    import torch.nn.functional as F

    found, mask = {}, words.attention_mask.view(ROWS, 1, -1, 1)
    for layer, block in enumerate(model.text_encoder.encoder.layer[2:]):
        attention = block.crossattention.self
        attention.save_attention = True
        states = model.visual_encoder(image)
        given = dict(attention_mask=words.attention_mask, encoder_hidden_states=states)
        given |= dict(encoder_attention_mask=torch.ones(states.shape[:-1]), return_dict=True)
        out = model.text_encoder(words.input_ids, **given).last_hidden_state
        model.itm_head(out[:, 0])[:, 1].sum().backward()
        maps = attention.get_attention_map().detach()[..., 1:] * mask
        found[f"tokens{layer}"] = maps * attention.get_attn_gradients()[..., 1:].clamp(min=0) * mask
        attention.save_attention = False
    for layer, block in enumerate(model.visual_encoder.blocks):
        states = model.visual_encoder(image, register_blk=layer)
        given = dict(attention_mask=words.attention_mask, return_dict=True, mode="text")
        text = model.text_encoder(words.input_ids, **given).last_hidden_state
        sides = (model.vision_proj(states[:, 0]), model.text_proj(text[:, 0]))
        one, other = (F.normalize(side, dim=-1) for side in sides)
        (one @ other.t() / model.temp).diag().sum().backward()
        gradient = block.attn.get_attn_gradients()[:, :, 0, 1:].clamp(0)
        found[f"image{layer}"] = block.attn.get_attention_map()[:, :, 0, 1:] * gradient
    model.zero_grad()
    maps = {
        key: value.mean(1).reshape(*value.shape[:1], *value.shape[2:-1], 2, 2)
        for key, value in arrays(found).items()
    }

    for name in ("utils", "vqaTools.vqaEval", "refTools.evaluation.refEvaluation"):
        sys.modules[name] = types.SimpleNamespace(VQAEval=None, RefEvaluation=None)
    spec = importlib.util.spec_from_file_location("official_utils", f"{source}/dataset/utils.py")
    official = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(official)
    torch.Tensor.cuda = lambda self: self
    rng = np.random.default_rng(4)
    count, width, height = 60, 50, 37
    heat = rng.random((count, 4, 4)).astype(np.float32)
    corner = rng.uniform(0, 30, (count, 5, 2))
    boxes = np.concatenate([corner, rng.uniform(6, 22, (count, 5, 2))], -1)
    answer = boxes[np.arange(count), rng.integers(0, 5, count)] + rng.uniform(-2, 2, (count, 4))
    refer = types.SimpleNamespace(
        Refs={i: dict(image_id=i, split=("val", "testA", "testB")[i % 3]) for i in range(count)},
        refToAnn={i: dict(bbox=answer[i].tolist()) for i in range(count)},
        Imgs={i: dict(width=width, height=height) for i in range(count)},
    )
    results = [dict(ref_id=i, pred=torch.tensor(heat[i])) for i in range(count)]
    proposals = {str(i): boxes[i].tolist() for i in range(count)}
    chosen, judge = [], official.computeIoU
    official.computeIoU = lambda answer, box: [chosen.append(box), judge(answer, box)][1]
    accuracy = official.grounding_eval(results, proposals, None, refer, alpha=0.5, mask_size=4)
    maps |= dict(heat=heat, boxes=boxes, answer=answer, chosen=chosen, size=(width, height))
    maps |= dict(accuracy=[accuracy[f"{split}_d"] for split in ("val", "testA", "testB")])
    large = F.interpolate(torch.tensor(heat[:1, None]), (height, width), mode="bicubic")
    np.savez_compressed(
        GOLDEN / "albef_gradcam.npz", versions=versions(), large=large.numpy()[0, 0], **maps
    )


def answers() -> None:
    import torch
    from models import model_vqa as official
    from models.xbert import BertLMHeadModel, BertModel

    official.VisionTransformer = tiny_vit
    for kind in (BertModel, BertLMHeadModel):
        kind.from_pretrained = classmethod(lambda cls, _, config, **how: cls(config, **how))
    # The source has six layers in its code.
    read = official.BertConfig.from_json_file
    shallow = lambda path: _Shallow(read(path))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(BERT, file)
        file.flush()
        official.BertConfig = types.SimpleNamespace(from_json_file=shallow)
        tokenizer = types.SimpleNamespace(pad_token_id=0)
        config = dict(image_res=SIDE, bert_config=file.name, distill=True)
        model = official.ALBEF("", "", tokenizer, config)
    model.momentum = 0.9
    shake(model)
    rng = np.random.default_rng(1)
    batch = inputs(rng)
    counts = rng.integers(1, 4, ROWS)
    weights = rng.random((ROWS, 3)).astype(np.float32) * (np.arange(3) < counts[:, None])
    candidates = rng.integers(4, VOCAB, (ROWS, 3, 4))
    lengths = rng.integers(2, 5, (ROWS, 3, 1))
    candidates[np.arange(4) == lengths - 1] = 2
    mask = (np.arange(4) < lengths) & (np.arange(3)[:, None] < counts[:, None, None])
    batch |= {"candidates": candidates * mask, "candidates_mask": mask, "answer_weight": weights}

    there = np.arange(3) < counts[:, None]
    with_start = lambda x, first: np.pad(x[there], ((0, 0), (1, 0)), constant_values=first)
    pack = lambda ids, seen: types.SimpleNamespace(
        input_ids=torch.tensor(ids), attention_mask=torch.tensor(seen).long()
    )
    question = pack(batch["text"], batch["text_mask"])
    answer = pack(with_start(candidates * mask, 1), with_start(mask, True))
    before = arrays(model.state_dict())
    image = torch.tensor(batch["image"].transpose(0, 3, 1, 2))
    # Ranking has its own list of answers, the same for all questions.
    every = candidates.reshape(-1, 4)[:9], np.arange(4) < lengths.reshape(-1, 1)[:9]
    listed = pack(
        np.pad(every[0] * every[1], ((0, 0), (1, 0)), constant_values=1),
        np.pad(every[1], ((0, 0), (1, 0)), constant_values=True),
    )
    with torch.no_grad():
        ids, probabilities = model(image, question, listed, k=5, train=False)

    loss = model(image, question, answer, 0.3, counts, torch.tensor(weights[there]))
    loss.backward()
    record(
        "albef_vqa",
        batch,
        before,
        model,
        loss=loss.item(),
        answers=every[0],
        answers_mask=every[1],
        ids=ids.numpy(),
        probabilities=probabilities.numpy(),
    )


def classification(name: str, images: int) -> None:
    import torch
    from models import model_nlvr, model_ve

    model = of_layers({"ve": model_ve, "nlvr": model_nlvr}[name], 2 + 2 * images)
    model.momentum = 0.9
    rng = np.random.default_rng(2)
    batch = inputs(rng)
    if images == 2:
        batch["image"] = rng.normal(size=(ROWS, 2, SIDE, SIDE, 3)).astype(np.float32)
    batch["label"] = rng.integers(0, 4 - images, ROWS)
    before = arrays(model.state_dict())
    image = batch["image"].reshape(ROWS, images, SIDE, SIDE, 3).transpose(1, 0, 4, 2, 3)
    image = torch.tensor(image.reshape(-1, 3, SIDE, SIDE))
    words = types.SimpleNamespace(input_ids=torch.tensor(batch["text"]))
    words.attention_mask = torch.tensor(batch["text_mask"]).long()
    loss = model(image, words, torch.tensor(batch["label"]), alpha=0.3)
    loss.backward()
    record(
        f"albef_{name}",
        batch,
        before,
        model,
        loss=loss.item(),
    )


def text_assignment() -> None:
    """What is drawn: which of three classes a row has, and similar images for it."""
    import torch
    from models import model_pretrain_nlvr

    model = of_layers(model_pretrain_nlvr, 4)
    rng = np.random.default_rng(4)
    batch = inputs(rng)
    own, label = np.arange(ROWS), np.arange(ROWS) % 3
    similar = np.stack([rng.permutation(np.delete(own, i))[:2] for i in own])
    pairs = np.stack([own, similar[:, 0]], 1), np.stack([similar[:, 0], own], 1), similar
    batch |= {"label": label, "pairs": np.stack(pairs)[label, own]}
    # Of each row: is its own image shown, then which is drawn, then whether it comes first.
    thresholds = {0: (1, 1), 1: (1, 0), 2: (0,)}
    uniform = [x for i in label for x in thresholds[i]]
    torch.rand = lambda _: torch.tensor(float(uniform.pop(0)))
    drawn = [row[: 1 + (i == 2)] for i, row in zip(label, similar)]
    torch.multinomial = lambda *_: torch.tensor(drawn.pop(0))
    before = arrays(model.state_dict())
    words = types.SimpleNamespace(input_ids=torch.tensor(batch["text"]))
    words.attention_mask = torch.tensor(batch["text_mask"]).long()
    loss = model(torch.tensor(batch["image"].transpose(0, 3, 1, 2)), words)
    loss.backward()
    record("albef_text_assignment", batch, before, model, loss=loss.item())


def of_layers(official, layers: int):
    """A model of one or two images: two layers of words, then those of both.

    The source has its numbers of layers in its code.
    """
    from models.xbert import BertModel

    official.VisionTransformer = tiny_vit
    BertModel.from_pretrained = classmethod(lambda cls, _, config, **how: cls(config, **how))
    read = official.BertConfig.from_json_file

    def shallow(path):
        config = read(path)
        config.__class__ = type("Shallow", (type(config),), {})
        type(config).num_hidden_layers = property(lambda _: layers, lambda *_: None)
        return config

    official.ALBEF.share_cross_attention = share
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(BERT, file)
        file.flush()
        official.BertConfig = types.SimpleNamespace(from_json_file=shallow)
        config = dict(image_res=SIDE, bert_config=file.name, distill=True)
        model = official.ALBEF("", None, config | dict(vision_width=8, embed_dim=4))
    shake(model)
    return model


def share(self, encoder) -> None:
    """The source's sharing of keys and values, for other numbers of layers than its own."""
    for first in range(2, len(encoder.layer), 2):
        one, other = (encoder.layer[first + i].crossattention.self for i in (0, 1))
        for kind in ("key", "value"):
            getattr(one, kind).weight = getattr(other, kind).weight
            getattr(one, kind).bias = getattr(other, kind).bias


class _Shallow:
    """A BertConfig whose number of layers, where the source sets it, becomes 2."""

    def __new__(cls, config):
        kind = type("Shallow", (type(config),), {})
        config.__class__ = kind
        layers = config.num_hidden_layers
        kind.num_hidden_layers = property(
            lambda self: 2 if self.fusion_layer == 0 else layers, lambda self, value: None
        )
        return config


def check_export(before: dict, model) -> None:
    """What we make of the official file and write again is the whole official model."""
    import torch

    import jvlm

    towers = ("vision", "text", "decoder") if hasattr(model, "text_decoder") else ("vision", "text")
    with tempfile.TemporaryDirectory() as folder:
        path, out = pathlib.Path(folder) / "x.pth", pathlib.Path(folder) / "out"
        torch.save({"model": {key: torch.tensor(value) for key, value in before.items()}}, path)
        m = jvlm.load(path, config={tower: {"num_heads": 2} for tower in towers})
        m.export(out, format="albef")
        kept = {key: value.clone() for key, value in model.state_dict().items()}
        model.load_state_dict(torch.load(out / "albef.pth")["model"], strict=True)
        for key, value in arrays(model.state_dict()).items():
            np.testing.assert_array_equal(value, before[key], err_msg=key)
        model.load_state_dict(kept)


def record(name, batch, before, model, **results) -> None:
    check_export(before, model)
    recording.record(name, versions(), batch, before, model, **results)


def versions() -> str:
    import torch
    import transformers

    return f"salesforce/ALBEF b9727e4, torch {torch.__version__}, {transformers.__version__}"


if __name__ == "__main__":
    main(sys.argv[1])
