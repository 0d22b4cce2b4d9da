# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as transformers and the Hugging Face hub have them: CLIP, Chinese-CLIP, SigLIP."""

import contextlib
import copy
import functools
import io
from pathlib import Path

import sentencepiece
import torch
import transformers
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel

from tests.parity.references import common
from tests.parity.references.common import Reference, write_json

transformers.logging.set_verbosity_error()  # Default ids beyond the tiny vocabularies.

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]

WORDS = ("ca", "cat</w>", "do", "dog</w>")
# 256 bytes, the same at a word's end, four merges, start and end of text.
CLIP_VOCAB = 2 * 256 + len(WORDS) + 2


def tower(width, depth, heads, mlp):
    return dict(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=mlp,
    )


VISION = dict(**tower(32, 3, 2, 64), image_size=32, patch_size=8)
TEXT = dict(**tower(24, 2, 2, 48), max_position_embeddings=12)


def clip(
    folder: Path,
    *,
    save,
    vision: dict,
    text: dict,
    end: int,
    pad: int,
    ids: tuple[int, int],
    legacy: bool = False,
    tokenizer: bool = False,
    half: bool = False,
) -> Reference:
    """A CLIP.

    Args:
      folder: to write to.
      save: how the weights are written, one of the `save_*` below.
      vision, text: sections of config.json; what they leave out is the class's default, as in the
        published files.
      end, pad, ids: of the batch, see `common.make_text`.
      legacy: the sections that count are `vision_config_dict` and `text_config_dict`, as in
        LAION's repositories and OpenAI's larger ones; others, contradicting them, stand beside.
      tokenizer: with tokenizer files.
      half: weights rounded to and stored as float16.
    """
    config = dict(architectures=["CLIPModel"], model_type="clip", projection_dim=16)
    if legacy:
        config |= dict(vision_config_dict=vision, text_config_dict=text)
        config |= dict(
            vision_config={**vision, "num_hidden_layers": 9, "hidden_act": "quick_gelu"},
            text_config={**text, "num_hidden_layers": 9, "hidden_act": "quick_gelu"},
        )
    else:
        config |= dict(vision_config=vision, text_config=text)
    model = build(transformers.CLIPConfig, transformers.CLIPModel, config)
    save(model.half() if half else model, folder)
    write_json(folder / "config.json", config)
    write_json(folder / "preprocessor_config.json", clip_preprocessor(vision, legacy))
    if tokenizer:
        clip_tokenizer(folder)
    return record(transformers.CLIPModel, folder, *common.make_text(12, ids, end, pad))


def chinese_clip(folder: Path) -> Reference:
    """BERT text tower, padding masked; as in the hub's repositories pickled, with position_ids."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"一二三四五六七八九十狗猫的红绿蓝"]
    words += ["##a", "a", "b", "##b"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    write_json(folder / "tokenizer_config.json", dict(do_lower_case=True))
    config = dict(
        architectures=["ChineseCLIPModel"],
        model_type="chinese_clip",
        projection_dim=16,
        vision_config=dict(**VISION, dropout=0.0),
        text_config=dict(**tower(24, 2, 3, 40), vocab_size=len(words), max_position_embeddings=20),
    )
    model = build(transformers.ChineseCLIPConfig, transformers.ChineseCLIPModel, config)
    save_bin(model, folder)
    write_json(folder / "config.json", config)
    write_json(
        folder / "preprocessor_config.json",
        dict(
            do_center_crop=False,
            do_normalize=True,
            do_resize=True,
            feature_extractor_type="ChineseCLIPFeatureExtractor",
            image_mean=CLIP_MEAN,
            image_std=CLIP_STD,
            resample=3,
            size=dict(height=32, width=32),
        ),
    )
    text, mask = common.make_text(12, (5, len(words)), end=3, pad=0, start=2)
    return record(transformers.ChineseCLIPModel, folder, text, mask)


def siglip(folder: Path, vision: dict = VISION) -> Reference:
    """Attention-pooled image tower, text pooled at the last position, padding not masked."""
    spiece(folder)
    config = dict(
        architectures=["SiglipModel"],
        model_type="siglip",
        vision_config=dict(model_type="siglip_vision_model", **vision),
        # The shared space has the width of the towers.
        text_config=dict(
            model_type="siglip_text_model",
            **tower(32, 2, 4, 40),
            max_position_embeddings=12,
            vocab_size=40,
        ),
    )
    model = build(transformers.SiglipConfig, transformers.SiglipModel, config)
    save_pretrained(model, folder)
    write_json(folder / "config.json", config)
    write_json(
        folder / "preprocessor_config.json",
        dict(
            do_normalize=True,
            do_rescale=True,
            do_resize=True,
            image_mean=[0.5] * 3,
            image_processor_type="SiglipImageProcessor",
            image_std=[0.5] * 3,
            processor_class="SiglipProcessor",
            resample=3,
            rescale_factor=1 / 255,
            size=dict(height=vision["image_size"], width=vision["image_size"]),
        ),
    )
    text, _ = common.make_text(12, (3, 40), end=1, pad=1)
    return record(transformers.SiglipModel, folder, text, size=vision["image_size"])


def build(config_class, model_class, config):
    """The model that a config.json describes, with random weights."""
    # A copy, since reading legacy configs changes them.
    return common.randomize(model_class(config_class.from_dict(copy.deepcopy(config))))


@torch.no_grad()
def record(model_class, folder, text, mask=None, size=32) -> Reference:
    """What transformers makes of the folder, for a batch and for images of another size."""
    with quiet():
        model = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = {} if mask is None else {"attention_mask": torch.tensor(mask)}
    batch = {"image": common.make_image((size, size)), "text": text}
    if mask is not None:
        batch["text_mask"] = mask
    image, ids = common.to_torch(batch)
    out = model(pixel_values=image, input_ids=ids, **inputs)
    other = common.make_image((40, 24), rows=2)
    pixels = common.image_to_torch(other)
    resized = model.get_image_features(pixel_values=pixels, interpolate_pos_encoding=True)
    return Reference(
        folder,
        batch,
        common.to_numpy(out.image_embeds),
        common.to_numpy(out.text_embeds),
        common.to_numpy(out.logits_per_image),
        common.to_numpy(out.vision_model_output.last_hidden_state),
        common.to_numpy(out.text_model_output.last_hidden_state),
        other_size=(other, common.unit(resized.pooler_output)),
    )


def quiet():
    """Hides progress bars."""
    return contextlib.redirect_stderr(io.StringIO())


def with_position_ids(model):
    """The state dict as saved by transformers before 4.31: these buffers count as weights."""
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for side in ("text_model", "vision_model"):
        table = [k for k in state if k.startswith(f"{side}.embeddings.position_embedding")][0]
        state[f"{side}.embeddings.position_ids"] = torch.arange(len(state[table]))[None]
    return state


def save_safetensors(model, folder):
    save_file(with_position_ids(model), folder / "model.safetensors", {"format": "pt"})


def save_bin(model, folder):
    torch.save(with_position_ids(model), folder / "pytorch_model.bin")


def save_pretrained(model, folder, **options):
    with quiet():
        model.save_pretrained(folder, **options)


def clip_preprocessor(vision, legacy):
    """preprocessor_config.json, its sizes as numbers (OpenAI, 2021) or as dicts (since 4.22)."""
    size = vision["image_size"]
    return dict(
        crop_size=dict(height=size, width=size) if legacy else size,
        do_center_crop=True,
        do_normalize=True,
        do_resize=True,
        feature_extractor_type="CLIPFeatureExtractor",
        image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
        resample=3,
        size=dict(shortest_edge=size) if legacy else size,
    )


def clip_tokenizer(folder):
    """Byte-level BPE with four merges."""
    letters = sorted(ByteLevel.alphabet())
    vocab = [*letters, *(f"{letter}</w>" for letter in letters), *WORDS]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    write_json(folder / "vocab.json", {token: i for i, token in enumerate(vocab)})
    merges = ["#version: 0.2", "c a", "ca t</w>", "d o", "do g</w>"]
    (folder / "merges.txt").write_text("\n".join(merges) + "\n", encoding="utf-8")
    special = dict(
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        dict(**special, model_max_length=12, tokenizer_class="CLIPTokenizer", do_lower_case=True),
    )


def spiece(folder):
    """A SentencePiece model with SigLIP's special ids: 0 pad (unused), 1 end and pad, 2 unknown."""
    words = ["a red cat", "a blue dog", "two green birds", "one bird and a dog", "the cat is red"]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words * 5),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        # The texts have few letters: fill up to the size of the table.
        user_defined_symbols=[f"<extra_{i}>" for i in range(13)],
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    write_json(
        folder / "tokenizer_config.json",
        dict(
            tokenizer_class="SiglipTokenizer",
            model_max_length=12,
            do_lower_case=True,
            eos_token="</s>",
            pad_token="</s>",
            unk_token="<unk>",
        ),
    )


END = CLIP_VOCAB - 1
REFERENCES = {
    # OpenAI's repositories: end-of-text "is" id 2, which means the greatest id.
    "hf_clip": functools.partial(
        clip,
        save=save_safetensors,
        vision=dict(**VISION, hidden_act="quick_gelu"),
        text=dict(**TEXT, vocab_size=CLIP_VOCAB, hidden_act="quick_gelu", eos_token_id=2),
        end=END,
        pad=0,
        ids=(1, 9),
        tokenizer=True,
    ),
    # LAION's repositories: exact gelu, real end-of-text id, padded with it.
    "hf_clip_laion": functools.partial(
        clip,
        save=save_safetensors,
        vision=dict(**VISION, hidden_act="gelu"),
        text=dict(**TEXT, vocab_size=CLIP_VOCAB, hidden_act="gelu", eos_token_id=END),
        end=END,
        pad=END,
        ids=(1, END - 1),
        legacy=True,
        tokenizer=True,
    ),
    "hf_clip_sharded": functools.partial(
        clip,
        save=functools.partial(save_pretrained, max_shard_size="20KB"),
        vision=VISION,
        text=dict(**TEXT, vocab_size=60, eos_token_id=59),
        end=59,
        pad=0,
        ids=(1, 58),
        half=True,
    ),
    "hf_clip_bin": functools.partial(
        clip,
        save=save_bin,
        vision=VISION,
        text=dict(**TEXT, vocab_size=60, eos_token_id=59),
        end=59,
        pad=0,
        ids=(1, 58),
    ),
    # Head widths 8 and 10, and words with greater ids than end-of-text (an extended vocabulary).
    "hf_clip_odd": functools.partial(
        clip,
        save=save_safetensors,
        vision=dict(**tower(24, 3, 3, 40), image_size=32, patch_size=8, layer_norm_eps=1e-3),
        text=dict(
            **tower(20, 2, 2, 36), max_position_embeddings=12, vocab_size=99, eos_token_id=60
        ),
        end=60,
        pad=0,
        ids=(61, 99),
    ),
    "hf_chinese_clip": chinese_clip,
    "hf_siglip": siglip,
    # As so400m-patch14-384: the patches leave the image's last rows and columns out.
    "hf_siglip_so400m": functools.partial(siglip, vision={**VISION, "image_size": 36}),
}
