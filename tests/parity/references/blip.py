# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BLIP as transformers and the hub have it: tiny, random, with what its classes make of it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

from tests.parity.references import common
from tests.parity.references.common import image_to_torch, unit, write_json
from tests.parity.references.hf import CLIP_MEAN, CLIP_STD, quiet, tower

V, LENGTH = 48, 9
PAD, CLS, SEP, DEC = 0, 1, 2, V - 2
PROMPT = (CLS, 7, 8, SEP)
# Greedy, and beams as for NoCaps (eval_nocaps.py).
SETTINGS = (
    dict(max_new_tokens=8),
    dict(num_beams=3, max_new_tokens=8, min_new_tokens=2, repetition_penalty=1.1),
)


@dataclasses.dataclass(frozen=True)
class BLIP:
    """A checkpoint as published, and what transformers makes of a batch.

    Attributes:
      path: a folder.
      model_class: transformers'.
      batch: for jvlm.
      outputs: field of our model's output -> its values.
      prompts: batch to continue, or empty.
      ids: by number of `SETTINGS`: new ids.
    """

    path: Path
    model_class: type
    batch: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    prompts: Mapping[str, np.ndarray]
    ids: tuple[np.ndarray, ...]


def make(folder: Path, name: str, width: int, seed: int, strength: float) -> BLIP:
    """Writes a checkpoint and records what it computes.

    Args:
      folder: to write to.
      name: transformers' class.
      width: of the image tower.
      seed: of the weights.
      strength: factor on the weights by which texts see images.
    """
    model_class = getattr(transformers, name)
    text = dict(**tower(24, 2, 2, 48), vocab_size=V, max_position_embeddings=20)
    text |= dict(bos_token_id=DEC, sep_token_id=SEP, pad_token_id=PAD, is_decoder=True)
    config = dict(
        architectures=[name],
        model_type="blip",
        image_text_hidden_size=16,
        text_config=text | dict(encoder_hidden_size=width),
        vision_config=dict(**tower(width, 2, 2, 48), image_size=32, patch_size=8),
    )
    model = model_class(transformers.BlipConfig.from_dict(dict(config)))
    common.randomize(model, seed)
    with torch.no_grad():
        for key, value in model.named_parameters():
            # So that texts depend on the images, do not repeat one word, and end.
            if "_embeddings" in key:
                value.mul_(10)
            elif "crossattention" in key and value.ndim > 1:
                value.mul_(strength)
        if hasattr(model, "text_decoder"):
            model.text_decoder.cls.predictions.bias[SEP] += 0.5
    save(model, folder)
    write_json(folder / "config.json", config)
    size = dict(height=32, width=32)
    processor = dict(image_processor_type="BlipImageProcessor", size=size, resample=3)
    processor |= dict(image_mean=CLIP_MEAN, image_std=CLIP_STD, do_normalize=True)
    write_json(folder / "preprocessor_config.json", processor)
    with quiet():
        model = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    words, mask = common.make_text(LENGTH, (4, V - 2), SEP, PAD, CLS)
    batch = {"image": common.make_image((32, 32)), "text": words, "text_mask": mask}
    with torch.no_grad():
        return BLIP(folder, model_class, *RECORD[name](model, batch))


def save(model: torch.nn.Module, folder: Path) -> None:
    """model.safetensors, what is tied once."""
    tensors, tied = model.state_dict(), set(model.all_tied_weights_keys)
    tensors = {key: value.contiguous() for key, value in tensors.items() if key not in tied}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def captions(model, batch):
    inputs = _inputs(batch)
    inputs["input_ids"][:, 0] = DEC
    outputs = {"logits": common.to_numpy(model(**inputs).logits)}
    prompts = _prompts(batch, PROMPT[:-1])
    given = torch.tensor(PROMPT).repeat(len(batch["text"]), 1)
    ids = [
        model.generate(inputs["pixel_values"], given.clone(), **how)[:, len(PROMPT) - 1 :]
        for how in SETTINGS
    ]
    return batch, outputs, prompts, tuple(x.numpy() for x in ids)


def answers(model, batch):
    """The classes' own steps, since `forward` returns no logits.

    Questions without padding: from transformers 5 on the decoder sees it (`BlipTextAttention` does
    not pass its mask on), and `generate` has always read it.
    """
    words = np.where(batch["text_mask"], batch["text"], 5)
    batch = batch | {"text": words, "text_mask": words >= 0}
    inputs = _inputs(batch)
    answer, mask = common.make_text(5, (4, V - 2), SEP, PAD, DEC)
    states = model.vision_model(inputs["pixel_values"]).last_hidden_state
    question = model.text_encoder(
        inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        encoder_hidden_states=states,
        encoder_attention_mask=torch.ones(states.shape[:2], dtype=torch.long),
    ).last_hidden_state
    logits = model.text_decoder(
        torch.tensor(answer).long(),
        attention_mask=torch.tensor(mask).long(),
        encoder_hidden_states=question,
        encoder_attention_mask=inputs["attention_mask"],
    ).logits
    prompts = {key: batch[key] for key in ("image", "text", "text_mask")}
    asked = inputs["input_ids"], inputs["pixel_values"]
    ids = [model.generate(*asked, **how)[:, 1:] for how in SETTINGS]
    given = batch | {"decoder_text": answer, "decoder_mask": mask}
    return given, {"logits": common.to_numpy(logits)}, prompts, tuple(x.numpy() for x in ids)


def pairs(model, batch):
    inputs = _inputs(batch)
    alone = model(**inputs, use_itm_head=False)
    image = unit(model.vision_proj(alone.last_hidden_state[:, 0]))
    text = unit(model.text_proj(alone.question_embeds[:, 0]))
    np.testing.assert_allclose(image @ text.T, alone.itm_score.numpy(), atol=1e-6)
    logits = common.to_numpy(model(**inputs).itm_score)
    return batch, {"itm_logits": logits, "image_embeds": image, "text_embeds": text}, {}, ()


def _inputs(batch) -> dict[str, torch.Tensor]:
    return dict(
        pixel_values=image_to_torch(batch["image"]),
        input_ids=torch.tensor(batch["text"]).long(),
        attention_mask=torch.tensor(batch["text_mask"]).long(),
    )


def _prompts(batch, ids) -> dict[str, np.ndarray]:
    text = np.tile(np.array(ids, np.int32), (len(batch["text"]), 1))
    return {"image": batch["image"], "text": text, "text_mask": text >= 0}


RECORD = {
    "BlipForConditionalGeneration": captions,
    "BlipForImageTextRetrieval": pairs,
    "BlipForQuestionAnswering": answers,
}
REFERENCES = {
    "hf_blip_captions": lambda folder: make(folder, "BlipForConditionalGeneration", 32, 2, 4),
    "hf_blip_pairs": lambda folder: make(folder, "BlipForImageTextRetrieval", 32, 0, 2),
    "hf_blip_answers": lambda folder: make(folder, "BlipForQuestionAnswering", 24, 0, 2),
}
