# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records what the official code of BLIP makes of tiny models with random weights.

    python -m tests.parity.make_blip BLIP    # writes tests/golden/blip_*.npz

BLIP is a clone of salesforce/BLIP (056a169). It runs with the transformers that it asks for, 4.15.0
(`pip install --no-deps transformers==4.15.0 huggingface_hub==0.2.1 sacremoses==0.0.53
tokenizers==0.13.3`), whose beam search later ones have changed. What is drawn at random (wrong
partners) is given to both; texts are given as ids.
"""

import functools
import importlib.metadata
import json
import sys
import tempfile
import types

import numpy as np

from tests.parity import recording
from tests.parity.recording import arrays, load_official, shake

ROWS, LENGTH, VOCAB, SIDE, WIDTH = 6, 7, 24, 8, 12
CLS, SEP, DEC, ENC = 1, 2, VOCAB - 2, VOCAB - 1
PROMPT = [CLS, 7, 11, SEP]
MED = dict(
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    vocab_size=VOCAB,
    max_position_embeddings=16,
    encoder_width=8,
    layer_norm_eps=1e-12,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    pad_token_id=0,
    hidden_act="gelu",
    add_cross_attention=True,
)


def main(source: str):
    # It asks for a tokenizers that was not built for today's Pythons.
    found = importlib.metadata.version
    importlib.metadata.version = lambda name: "0.10.3" if name == "tokenizers" else found(name)
    load_official(source)
    pretraining()
    retrieval()
    captioner()
    answers()
    pairs()


class Tokenizer:
    """Texts are encodings already, but for the captioner's prompt."""

    pad_token_id, bos_token_id, enc_token_id, sep_token_id = 0, DEC, ENC, SEP

    def __init__(self):
        self.decoded = []

    def __len__(self):
        return VOCAB

    def __call__(self, text, **_):
        import torch
        from transformers import BatchEncoding

        if isinstance(text, str):
            return types.SimpleNamespace(input_ids=PROMPT)
        if isinstance(text, list):
            return BatchEncoding({"input_ids": torch.tensor([PROMPT] * len(text))})
        # The source writes into it.
        return BatchEncoding({key: value.clone() for key, value in text.items()})

    def decode(self, ids, **_):
        self.decoded.append(ids.tolist())
        return ""


def encoding(ids, mask) -> dict:
    import torch

    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask).long()}


def build(module, name: str, layers: int = 2, **options):
    """A model of the source, small and with a tokenizer that reads ids."""
    tokenizer = Tokenizer()
    module.init_tokenizer = lambda: tokenizer
    module.create_vit = lambda *_, **__: (recording.tiny_vit(SIDE, 4, WIDTH), WIDTH)
    for kind in ("BertModel", "BertLMHeadModel"):
        if hasattr(module, kind):
            getattr(module, kind).from_pretrained = classmethod(
                lambda cls, _, config, **how: cls(config, **how)
            )
    module.concat_all_gather = lambda x: x
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(MED | dict(num_hidden_layers=layers), file)
        file.flush()
        model = getattr(module, name)(med_config=file.name, image_size=SIDE, vit="tiny", **options)
    shake(model, 0.2)
    if hasattr(model, "temp"):
        model.temp.data.fill_(0.1)  # Of its domain.
    return model


def make_talkative(decoder) -> None:
    """Words depend on what is seen and on those before; sometimes the end is likely."""
    import torch

    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if parameter.ndim == 2 and "word_embeddings" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.7)
        decoder.cls.predictions.bias[SEP] += 1.4


inputs = functools.partial(recording.inputs, rows=ROWS, length=LENGTH, vocab=VOCAB - 2, side=SIDE)


def pairs_of(rng) -> dict:
    """Images, and texts that end in [SEP]."""
    batch = inputs(rng)
    last = batch["text_mask"].sum(1) - 1
    batch["text"][np.arange(ROWS), last] = SEP
    return batch


def pixels(image):
    import torch

    return torch.tensor(np.moveaxis(image, -1, -3))


def draw(batch: dict) -> None:
    """What the source would draw becomes what the batch says."""
    import torch

    draws = [*batch["negative_image"], *batch["negative_text"]]
    torch.multinomial = lambda *_: torch.tensor([draws.pop(0)])


def record(name: str, batch: dict, before: dict, model, **results) -> None:
    import torch
    import transformers

    versions = f"salesforce/BLIP 056a169, torch {torch.__version__}, {transformers.__version__}"
    recording.record(f"blip_{name}", versions, batch, before, model, **results)


def pretraining() -> None:
    from models import blip_pretrain

    options = dict(embed_dim=4, queue_size=12, momentum=0.9)
    model = build(blip_pretrain, "BLIP_Pretrain", **options)
    rng = np.random.default_rng(0)
    batch = pairs_of(rng)
    for name in ("negative_image", "negative_text"):
        batch[name] = (np.arange(ROWS) + rng.integers(1, ROWS, ROWS)) % ROWS
    draw(batch)
    before = arrays(model.state_dict())
    text = encoding(batch["text"], batch["text_mask"])
    losses = model(pixels(batch["image"]), text, 0.3)
    sum(losses).backward()
    record("pretrain", batch, before, model, losses=[loss.item() for loss in losses])


def retrieval() -> None:
    """With what the demo of matching and the feature extractor make of the same weights."""
    import torch
    from models import blip, blip_itm, blip_retrieval

    options = dict(embed_dim=4, queue_size=12, momentum=0.9)
    model = build(blip_retrieval, "BLIP_Retrieval", **options)
    rng = np.random.default_rng(1)
    batch = pairs_of(rng)
    batch["image_id"] = np.array([3, 5, 3, 7, 8, 5])  # Two pictures have two captions here.
    other = batch["image_id"][:, None] != batch["image_id"]
    for name in ("negative_image", "negative_text"):
        batch[name] = np.array([rng.choice(np.flatnonzero(row)) for row in other])
    draw(batch)
    model.idx_queue[0, :3] = torch.tensor([5, 9, 3])
    before = arrays(model.state_dict())
    text, image = encoding(batch["text"], batch["text_mask"]), pixels(batch["image"])

    demo = build(blip_itm, "BLIP_ITM", embed_dim=4)
    features = build(blip, "BLIP_Base")
    for other in (demo, features):
        other.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        results = {head: demo(image, text, head) for head in ("itm", "itc")}
        for mode in ("image", "text", "multimodal"):
            results[mode] = features(image, text, mode)

    losses = model(image, text, 0.3, torch.tensor(batch["image_id"]))
    sum(losses).backward()
    results = {name: value.numpy() for name, value in results.items()}
    losses = [loss.item() for loss in losses]
    record("retrieval", batch, before, model, losses=losses, **results)


# Of `BLIP_Decoder.generate`; the lengths count the prompt's three tokens.
SEARCHES = {
    "greedy": dict(num_beams=1, max_length=12, min_length=5),
    "beam": dict(num_beams=3, max_length=12, min_length=5),
    "penalised": dict(num_beams=3, max_length=12, min_length=5, repetition_penalty=1.5),
}


def captioner() -> None:
    import torch
    from models import blip

    model = build(blip, "BLIP_Decoder", prompt="a picture of ")
    make_talkative(model.text_decoder)
    rng = np.random.default_rng(2)
    batch = pairs_of(rng)
    batch["text"][:, 1:3] = PROMPT[1:3]
    # One token at least behind the prompt, and the end.
    batch["text_mask"][:, :5] = True
    batch["text"][:, 3] = rng.integers(4, VOCAB - 2, ROWS)
    batch["text"][batch["text_mask"].sum(1) == 5, 4] = SEP
    before = arrays(model.state_dict())
    image = pixels(batch["image"])
    with torch.no_grad():
        results = {}
        for name, options in SEARCHES.items():
            model.tokenizer.decoded.clear()
            model.generate(image, **options)
            ids = model.tokenizer.decoded
            width = max(map(len, ids))
            results[name] = np.array([row + [0] * (width - len(row)) for row in ids])
    loss = model(image, encoding(batch["text"], batch["text_mask"]))
    loss.backward()
    record("captioner", batch, before, model, loss=loss.item(), **results)


def answers() -> None:
    import torch
    from models import blip_vqa

    model = build(blip_vqa, "BLIP_VQA")
    make_talkative(model.text_decoder)
    rng = np.random.default_rng(3)
    batch = pairs_of(rng)
    counts = rng.integers(1, 4, ROWS)
    weights = rng.random((ROWS, 3)).astype(np.float32) * (np.arange(3) < counts[:, None])
    candidates = rng.integers(4, VOCAB - 2, (ROWS, 3, 4))
    lengths = rng.integers(2, 5, (ROWS, 3, 1))
    candidates[np.arange(4) == lengths - 1] = SEP
    mask = (np.arange(4) < lengths) & (np.arange(3)[:, None] < counts[:, None, None])
    batch |= {"candidates": candidates * mask, "candidates_mask": mask, "answer_weight": weights}
    before = arrays(model.state_dict())
    image, question = pixels(batch["image"]), encoding(batch["text"], batch["text_mask"])
    behind_start = lambda ids, mask: encoding(
        np.pad(ids * mask, ((0, 0), (1, 0)), constant_values=DEC),
        np.pad(mask, ((0, 0), (1, 0)), constant_values=True),
    )

    # Ranking has its own list of answers, the same for all questions.
    listed = candidates.reshape(-1, 4)[:9], np.arange(4) < lengths.reshape(-1, 1)[:9]
    losses = []
    forward = model.text_decoder.forward

    def watch(*args, **options):
        out = forward(*args, **options)
        losses.append(out.loss)
        return out

    with torch.no_grad():
        model.text_decoder.forward = watch
        answer = model.tokenizer(behind_start(*listed))
        ids = model(image, question, answer, train=False, inference="rank", k_test=5)
        model.text_decoder.forward = forward
        # Answering reads padding of questions too: of one length here.
        whole = encoding(np.where(batch["text_mask"], batch["text"], 5), np.ones((ROWS, LENGTH)))
        model(image, whole, train=False, inference="generate")
    generated = np.array([row + [0] * (10 - len(row)) for row in model.tokenizer.decoded])

    there = np.arange(3) < counts[:, None]
    answer = behind_start(candidates[there], mask[there])
    loss = model(image, question, answer, counts, torch.tensor(weights[there]))
    loss.backward()
    record(
        "vqa",
        batch,
        before,
        model,
        loss=loss.item(),
        answers=listed[0],
        answers_mask=listed[1],
        ids=ids.numpy(),
        scores=-losses[-1].reshape(ROWS, 5).numpy(),
        questions=whole["input_ids"].numpy(),
        generated=generated,
    )


def pairs() -> None:
    """Six layers that average what two images show, one that merges it."""
    import torch
    from models import blip_nlvr

    model = build(blip_nlvr, "BLIP_NLVR", layers=7)
    rng = np.random.default_rng(4)
    batch = pairs_of(rng)
    batch["image"] = rng.normal(size=(ROWS, 2, SIDE, SIDE, 3)).astype(np.float32)
    batch["label"] = rng.integers(0, 2, ROWS)
    before = arrays(model.state_dict())
    image = pixels(batch["image"].swapaxes(0, 1).reshape(-1, SIDE, SIDE, 3))
    text, label = encoding(batch["text"], batch["text_mask"]), torch.tensor(batch["label"])
    with torch.no_grad():
        logits = model(image, text, label, train=False).numpy()
    loss = model(image, text, label)
    loss.backward()
    record("nlvr", batch, before, model, loss=loss.item(), logits=logits)


if __name__ == "__main__":
    main(sys.argv[1])
