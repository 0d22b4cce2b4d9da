# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records what LAVIS's BLIP makes of tiny models with random weights.

    python -m tests.parity.make_lavis_blip LAVIS ALBEF

As `make_lavis`, whose stand-ins serve here too. Writes tests/golden/lavis_blip_*.npz and
shapes/lavis_blip.tsv.
"""

import functools
import json
import pathlib
import sys
import types

import numpy as np

from tests import published_shapes
from tests.parity import make_lavis
from tests.parity.make_albef import ROWS, SIDE, VOCAB, inputs
from tests.parity.make_blip_shapes import describe, numbers_on_cpu
from tests.parity.make_lavis import ANSWERS
from tests.parity.recording import GOLDEN, arrays, load_official, shake

DEC, ENC, SEP = VOCAB - 2, VOCAB - 1, 2
PROMPT = [1, 5, 6]  # Begins with [CLS], which becomes [DEC]; its [SEP] is dropped.
LONGEST = 12
TINY = dict(
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    vocab_size=VOCAB,
    max_position_embeddings=LONGEST,
    encoder_width=8,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
# NLVR2's layers merge from the seventh on, by a number in the code.
PAIR_LAYERS = 7


def main(lavis: str, albef: str):
    load_official(albef)
    sys.path.remove(albef)
    make_lavis.load_models(pathlib.Path(lavis) / "lavis")
    configs = pathlib.Path(lavis) / "lavis/configs/models"
    text = json.loads((configs / "med_config.json").read_text())
    with numbers_on_cpu():
        full_size(text)
    tiny(text | TINY)


def models(config: dict, side: dict[str, int], embed_dim: int, queue_size: int, /, **vit):
    """LAVIS's own finetuned models by their files' names."""
    import torch
    from lavis.models.blip_models.blip import BlipBase
    from lavis.models.blip_models.blip_caption import BlipCaption
    from lavis.models.blip_models.blip_nlvr import BlipNLVR
    from lavis.models.blip_models.blip_retrieval import BlipRetrieval
    from lavis.models.blip_models.blip_vqa import BlipVQA
    from lavis.models.blip_models.nlvr_encoder import BertModel as PairBert
    from lavis.models.med import XBertEncoder, XBertLMHeadDecoder
    from lavis.models.vit import VisionTransformerEncoder
    from transformers import BertConfig

    ids = types.SimpleNamespace(input_ids=[*PROMPT, SEP])
    BlipBase.__init__ = lambda self: super(BlipBase, self).__init__()  # It wants transformers 4.25.
    BlipBase.init_tokenizer = classmethod(lambda cls: lambda text: ids)

    def image(name):
        norm = functools.partial(torch.nn.LayerNorm, eps=1e-6)
        tower = VisionTransformerEncoder(img_size=side[name], norm_layer=norm, qkv_bias=True, **vit)
        tower.vision_width = config["encoder_width"]
        return tower

    def text(cls, **changes):
        options = {} if cls is XBertLMHeadDecoder else dict(add_pooling_layer=False)
        return cls(BertConfig(**config | changes), **options)

    layers = max(PAIR_LAYERS, config["num_hidden_layers"])
    decoder = functools.partial(text, XBertLMHeadDecoder)
    return {
        "coco_caption_base": BlipCaption(image("caption"), decoder()),
        "coco_retrieval": BlipRetrieval(
            image("retrieval"), text(XBertEncoder), queue_size, embed_dim=embed_dim
        ),
        "okvqa": BlipVQA(image("vqa"), text(XBertEncoder), decoder()),
        "nlvr": BlipNLVR(image("nlvr"), text(PairBert, num_hidden_layers=layers), 2),
    }


def full_size(config: dict) -> None:
    import torch

    sides = dict(caption=384, retrieval=384, vqa=480, nlvr=384)
    with torch.device("meta"):
        made = models(config, sides, 256, 57600)
    published = {f"blip_{name}": describe(model) for name, model in made.items()}
    path = published_shapes.FOLDER / "lavis_blip.tsv"
    path.write_text(published_shapes.table(published))


def tiny(config: dict) -> None:
    import torch

    vit = dict(patch_size=8, embed_dim=8, depth=2, num_heads=2, mlp_ratio=2)
    sides = dict.fromkeys(("caption", "retrieval", "vqa", "nlvr"), SIDE)
    batch = inputs(np.random.default_rng(0))
    image = torch.tensor(batch["image"].transpose(0, 3, 1, 2))
    torch.manual_seed(5)
    for name, model in models(config, sides, 4, 12, **vit).items():
        shake(model)
        model.eval()
        with torch.no_grad():
            if "caption" in name:  # So that captions depend on the images, and end.
                for value in model.parameters():
                    value.mul_(6 if value.ndim > 1 else 1)
                model.text_decoder.cls.predictions.bias[SEP] += 2
            results = outputs(model, name, image, batch)
        results = {key: np.asarray(value) for key, value in results.items()}
        before = {f"before/{k}": v for k, v in arrays(model.state_dict()).items()}
        before = {k: v for k, v in before.items() if "_m." not in k}
        given = {f"batch/{k}": v for k, v in batch.items()}
        path = GOLDEN / f"lavis_blip_{name}.npz"
        np.savez_compressed(path, versions=make_lavis.versions(), **results, **given, **before)


def outputs(model, name: str, image, batch: dict) -> dict:
    """What is compared; of retrieval as `compute_sim_matrix` does it."""
    import torch
    from torch.nn.functional import normalize

    words = types.SimpleNamespace(input_ids=torch.tensor(batch["text"]))
    words.attention_mask = torch.tensor(batch["text_mask"]).long()
    words.to = lambda device: words
    marks = dict(bos_token_id=DEC, enc_token_id=ENC, sep_token_id=SEP, pad_token_id=0)
    sample = {"text_input": None, "image": image, "label": torch.zeros(len(image), dtype=int)}

    def tokenizer(*given: object, **how: object):
        return types.SimpleNamespace(
            input_ids=words.input_ids.clone(),
            attention_mask=words.attention_mask,
            to=lambda device: tokenizer(),
        )

    model.tokenizer = tokenizer
    tokenizer.__dict__.update(marks)
    if name == "nlvr":
        pair = {"text_input": None, "image0": image, "image1": image.flip(0)}
        return {"logits": model(pair | sample, is_train=False)["predictions"]}
    if name == "coco_caption_base":
        model.prompt_length = len(PROMPT)
        out, _ = model.forward_decoder(sample, model.forward_encoder(sample))
        return {"logits": out.logits, "ids": captions(model, image)}
    if name == "okvqa":
        answers = torch.tensor(ANSWERS)
        answers[:, 0] = DEC
        out = model.text_decoder(
            answers,
            attention_mask=(answers != 0).long(),
            encoder_hidden_states=model.forward_encoder(sample)[0].last_hidden_state,
            encoder_attention_mask=words.attention_mask,
            return_dict=True,
        )
        return {"logits": out.logits, "batch/decoder_text": answers}
    states = model.visual_encoder.forward_features(image)
    ids = words.input_ids.clone()
    ids[:, 0] = ENC
    fused = model.text_encoder(
        ids,
        attention_mask=words.attention_mask,
        encoder_hidden_states=states,
        encoder_attention_mask=torch.ones(states.shape[:2], dtype=int),
        return_dict=True,
    )
    text = model.text_encoder.forward_text(words).last_hidden_state
    return {
        "itm_logits": model.itm_head(fused.last_hidden_state[:, 0]),
        "image_embeds": normalize(model.vision_proj(states[:, 0]), dim=-1),
        "text_embeds": normalize(model.text_proj(text[:, 0]), dim=-1),
    }


def captions(model, image):
    """`generate`'s ids with the prompt, greedy: beams of later transformers end elsewhere."""
    import torch

    prompt = torch.tensor([PROMPT] * ROWS)
    prompt[:, 0] = DEC
    ids = model.text_decoder.generate_from_encoder(
        tokenized_prompt=types.SimpleNamespace(input_ids=prompt),
        visual_embeds=model.visual_encoder.forward_features(image),
        sep_token_id=SEP,
        pad_token_id=0,
        num_beams=1,
        max_length=LONGEST,
        min_length=len(PROMPT) + 2,
    )
    return ids[:, len(PROMPT) :]


if __name__ == "__main__":
    main(*sys.argv[1:])
