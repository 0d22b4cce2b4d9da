# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The tokenizer that belongs to a published checkpoint, found from the files beside it."""

import os
from collections.abc import Mapping
from pathlib import Path

from jvlm.config import check_keys
from jvlm.errors import UserError, did_you_mean
from jvlm.tokenizers.base import Base, read
from jvlm.tokenizers.clip_bpe import EOT, GZ, SOT, ClipBPE
from jvlm.tokenizers.hub import HubTokenizer, read_optional, special_tokens
from jvlm.tokenizers.sentencepiece import SentencePiece, vocabulary
from jvlm.tokenizers.wordpiece import WordPiece

# Where those that a SentencePiece model makes have it.
PIECES = {"LlamaTokenizer": "tokenizer.model", "T5Tokenizer": "spiece.model"}
FAMILIES = ("hf", "open_clip", "openai", "cn_clip", "albef", "blip", "lavis")

# What transformers calls the tokenizer of these models, and of folders with only these files.
BY_MODEL = {
    "clip": "CLIPTokenizer",
    "siglip": "SiglipTokenizer",
    "bert": "BertTokenizer",
    "blip": "BertTokenizer",
    "chinese_clip": "BertTokenizer",
    "gpt2": "GPT2Tokenizer",
    "opt": "GPT2Tokenizer",
    "roberta": "RobertaTokenizer",
    "t5": "T5Tokenizer",
    "llama": "LlamaTokenizer",
}
BY_FILES = {
    ("spiece.model",): "SiglipTokenizer",
    ("tokenizer.model",): "LlamaTokenizer",
    ("vocab.json", "merges.txt"): "CLIPTokenizer",
    ("vocab.txt",): "BertTokenizer",
    ("tokenizer.json",): "PreTrainedTokenizerFast",
}


def from_checkpoint(
    path: str | os.PathLike, *, max_len: int | None = None, family: str | None = None
) -> Base:
    """Makes the tokenizer of a published checkpoint's folder.

    Args:
      path: the folder.
      max_len: T; default what the folder's configuration says.
      family: whose code reads the texts: one of `FAMILIES`, of which 'hf' is transformers.
        Default open_clip where open_clip_config.json lies, openai where only its `.gz` lies,
        transformers elsewhere. A folder of CLIP may serve the first three: ids differ where texts
        need repair, and in the padding.

    Raises:
      UserError: no tokenizer there, or no length.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if family is not None and family not in FAMILIES:
        raise UserError(f"tokenizer.family {family!r} is unknown.{did_you_mean(family, FAMILIES)}")
    open_clip = read_optional(folder / "open_clip_config.json")
    kind = _class_name(folder)
    if family is None:
        family = "open_clip" if open_clip else "openai" if not kind else "hf"
    if family == "openai":
        return ClipBPE.read(_bpe(folder), max_len or 77, special_tokens=(SOT, EOT))
    if family == "cn_clip":
        return WordPiece.read(folder / "vocab.txt", max_len or 52, rules="google")
    if family in ("albef", "blip", "lavis"):  # BLIP and LAVIS have the stock tokenizer.
        return WordPiece.read(folder / "vocab.txt", max_len or 30, sep=family != "albef")
    if family == "open_clip":
        return _open_clip(folder, open_clip, max_len)
    if not kind:
        raise _nothing(folder)
    config = read_optional(folder / "tokenizer_config.json")
    max_len = max_len or config.get("model_max_length", 10**30)
    if max_len > 100_000:  # transformers writes 10**30 for 'unknown'.
        raise UserError(f"{folder}: its tokenizer_config.json has no length: give max_len")
    model = read_optional(folder / "config.json").get("model_type")
    if model == "siglip" and kind != "SiglipTokenizer":
        raise UserError(
            f"{folder}: its tokenizer is a {kind}, jvlm reads SigLIP's first version: give "
            "load(tokenizer=...)"
        )
    if kind in PIECES and not (folder / "tokenizer.json").is_file():
        return _pieces(folder, kind, config, max_len)
    if kind != "SiglipTokenizer":
        return HubTokenizer.read(folder, kind, max_len)
    clean = "siglip" if config.get("do_lower_case", True) else "siglip_cased"
    pad = config.get("pad_token", "</s>")
    pad = pad["content"] if isinstance(pad, Mapping) else pad
    return SentencePiece.make((), max_len, path=folder / "spiece.model", clean=clean, pad=pad)


def _pieces(folder: Path, kind: str, config: Mapping, max_len: int) -> SentencePiece:
    """LLaMA's or T5's, from a SentencePiece model.

    The ids are those of sentencepiece and of the tokenizer.json files that were published, which
    LLaVA and Vicuna were trained with: every text begins with a space of its own, also behind a
    special token unless tokenizer_config.json says `legacy: false`. transformers 5 gives others for
    a text that begins with a space, doubled spaces and spaces behind a special token, and no start
    token where the folder does not ask for one.
    """
    path = folder / PIECES[kind]
    content, is_llama = read(path), kind == "LlamaTokenizer"
    ids = {piece: id for id, piece in enumerate(vocabulary(content, str(path)))}
    names, added = special_tokens(folder, {}, config, kind)
    special = {token["content"]: id for id, token in added.items()}
    if not is_llama:
        count = config.get("extra_ids", 100)
        for i in range(count):
            special.setdefault(f"<extra_id_{i}>", len(ids) + count - 1 - i)
    for token in names.values():  # As in transformers, what has no id gets the next.
        free = max([len(ids) - 1, *special.values()]) + 1
        special.setdefault(token["content"], ids.get(token["content"], free))
    spelled = {key: names.get(f"{key}_token", {}).get("content") for key in ("pad", "bos", "eos")}
    return SentencePiece(
        {"spiece.model": content},
        max_len=max_len,
        start=is_llama and config.get("add_bos_token", True),
        end=not is_llama or config.get("add_eos_token", False),
        special=special,
        legacy=not is_llama or config.get("legacy") is not False,
        where=str(path),
        **spelled,
    )


def has_tokenizer(path: str | os.PathLike, family: str) -> bool:
    """Whether a folder holds files that `from_checkpoint` would read for a family."""
    folder = Path(path)
    bpe = all((folder / name).is_file() for name in ("vocab.json", "merges.txt"))
    if family == "openai":
        return bpe or (folder / GZ).is_file()
    if family in ("cn_clip", "albef", "blip", "lavis"):
        return (folder / "vocab.txt").is_file()
    known = _class_name(folder) is not None
    return known or (family == "open_clip" and (folder / GZ).is_file())


def _open_clip(folder: Path, config: Mapping, max_len: int | None) -> Base:
    """By open_clip_config.json, as open_clip's factory.get_tokenizer."""
    text = config.get("model_cfg", {}).get("text_cfg", {})
    max_len = max_len or text.get("context_length", 77)
    options = dict(text.get("tokenizer_kwargs", {}))
    where = f"{folder}/open_clip_config.json: tokenizer_kwargs"
    if "hf_tokenizer_name" not in text:
        check_keys(options, ("clean",), where=where)
        return ClipBPE.read(_bpe(folder), max_len, **options)
    check_keys(options, ("clean", "strip_sep_token"), where=where)
    kind = _class_name(folder)
    if not kind or (kind == "SiglipTokenizer" and not (folder / "tokenizer.json").is_file()):
        raise _nothing(folder)
    clean, strip_sep = options.get("clean", "whitespace"), options.get("strip_sep_token", False)
    return HubTokenizer.read(folder, kind, max_len, clean=clean, strip_sep=strip_sep)


def _class_name(folder: Path) -> str | None:
    """transformers' class for a folder, without 'Fast'; None where there is no file for it."""
    files = [name for name in BY_FILES if all((folder / file).is_file() for file in name)]
    if not files:
        return None
    name = read_optional(folder / "tokenizer_config.json").get("tokenizer_class")
    name = name or BY_MODEL.get(read_optional(folder / "config.json").get("model_type"))
    return name.removesuffix("Fast") if name else BY_FILES[files[0]]


def _bpe(folder: Path) -> Path:
    """What `ClipBPE.read` reads in a folder."""
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return folder
    if (folder / GZ).is_file():
        return folder / GZ
    raise _nothing(folder)


def _nothing(folder: Path) -> UserError:
    files = ", ".join([*(" with ".join(names) for names in BY_FILES), GZ])
    return UserError(f"{folder}: no tokenizer that fits: looked for {files}")
