# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A published folder's tokenizer, with the ids that transformers' AutoTokenizer gives."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from jvlm.errors import UserError
from jvlm.tokenizers import clean as cleaning
from jvlm.tokenizers import wordpiece
from jvlm.tokenizers.base import Base, read, read_json, to_json, write_files
from jvlm.tokenizers.clip_bpe import END, EOT, SOT, parse_merges

# In the order in which transformers adds them.
KEYS = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
DEFAULTS = {
    "CLIPTokenizer": {"bos_token": SOT, "eos_token": EOT, "unk_token": EOT, "pad_token": EOT},
    "BertTokenizer": wordpiece.SPECIAL | {"mask_token": wordpiece.MASK},
}


class HubTokenizer(Base):
    """A `tokenizer.json`, padded with the folder's pad token.

    The mask is True up to the end of the text, so where the pad token is the end token (CLIP) the
    first one is real and the rest is padding.

    Attributes: see `tokenizers.Tokenizer`; eos_id is [SEP] for vocabularies without an end token.
    """

    kind = "hf"

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        max_len: int,
        clean: str = "none",
        strip_sep: bool = False,
    ):
        """Makes the tokenizer.

        Args:
          files: contents of tokenizer.json and tokenizer_config.json, as `read` makes them.
          max_len: T.
          clean: see `tokenizers.clean`; open_clip cleans before it calls transformers.
          strip_sep: replace [SEP] by padding (CLIPA, open_clip's `strip_sep_token`).

        Raises:
          UserError: no pad or end token.
        """
        super().__init__(files, max_len=max_len, clean=clean, strip_sep=strip_sep)
        self._clean = cleaning.choose(clean)
        config = json.loads(files["tokenizer_config.json"])
        self._backend = Tokenizer.from_str(files["tokenizer.json"].decode())
        self._backend.no_padding()
        self._backend.enable_truncation(max_len)
        self.vocab_size = max(self._backend.get_vocab().values()) + 1
        self.pad_id = self._id(config, "pad_token")
        self.eos_id = self._id(config, "eos_token", "sep_token")
        self._sep = self._id(config, "sep_token") if strip_sep else None
        self._suffix = getattr(self._backend.model, "end_of_word_suffix", None)

    @classmethod
    def read(
        cls, folder: str | os.PathLike, tokenizer_class: str, max_len: int, **options
    ) -> "HubTokenizer":
        """Builds what transformers builds from a folder.

        transformers makes CLIP's and BERT's tokenizers from vocabulary and options, wherever these
        lie, and takes others as their tokenizer.json says.

        Args:
          folder: the published folder.
          tokenizer_class: transformers' name without 'Fast'.
          max_len: T.
          **options: see `HubTokenizer`.

        Raises:
          UserError: a file is missing or damaged.
        """
        folder = Path(folder)
        config = read_optional(folder / "tokenizer_config.json")
        build = lambda folder: _build(folder, tokenizer_class, config)
        backend, names = read(folder, build)
        config = {
            **{key: value for key, value in config.items() if key != "auto_map"},
            **{key: {**token, "__type": "AddedToken"} for key, token in names.items()},
            "tokenizer_class": tokenizer_class,
            "model_max_length": max_len,
        }
        files = {"tokenizer.json": backend.to_str().encode()}
        files["tokenizer_config.json"] = to_json(config)
        return cls(files, max_len=max_len, **options)

    def encode(self, text: str) -> list[int]:
        ids = self._backend.encode(self._clean(text)).ids
        if self._sep is not None:
            ids = ids[:-1] if ids[-1] == self._sep else ids
            ids = [self.pad_id if id == self._sep else id for id in ids]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        text = self._backend.decode([int(i) for i in ids], skip_special_tokens=True)
        return text.replace(self._suffix, " ").strip() if self._suffix else text

    def export(self, folder: str | os.PathLike) -> None:
        """Writes tokenizer.json, its configuration, and the vocabulary files of its kind."""
        config = json.loads(self._files["tokenizer_config.json"])
        names = {key: config[key]["content"] for key in KEYS if config.get(key)}
        write_files(folder, self._files | {"special_tokens_map.json": names})
        self._backend.model.save(str(folder))

    def _id(self, config: Mapping, *keys: str) -> int:
        token = next((config[key]["content"] for key in keys if config.get(key)), None)
        id = None if token is None else self._backend.token_to_id(token)
        if id is None:
            raise UserError(
                f"tokenizer: no {' or '.join(keys)}: name one of the vocabulary in "
                "tokenizer_config.json"
            )
        return id


def clip_backend(vocab: Mapping[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """CLIP's BPE with HF's conventions: NFC, whitespace, lower case; no repair of the text."""
    if SOT not in vocab or EOT not in vocab:
        raise UserError(f"no {SOT} or {EOT} in the vocabulary: not CLIP's")
    model = models.BPE(
        vocab=dict(vocab),
        merges=merges,
        continuing_subword_prefix="",
        end_of_word_suffix=END,
        fuse_unk=False,
        unk_token=EOT,
    )
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    words = r"<\|startoftext\|>|<\|endoftext\|>|" + words
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def read_optional(path: Path) -> dict:
    """A JSON file's content; {} where there is none."""
    return read_json(read(path), path) if path.is_file() else {}


def _build(folder: Path, tokenizer_class: str, config: Mapping) -> tuple[Tokenizer, dict]:
    """The backend and its special tokens (key -> fields)."""
    path = folder / "tokenizer.json"
    stored = read_optional(path)
    if tokenizer_class == "CLIPTokenizer":
        backend = clip_backend(*_clip_files(folder, stored))
    elif tokenizer_class == "BertTokenizer":
        backend = _bert(folder, stored, config)
    else:
        backend = Tokenizer.from_str(read(path).decode())
    names = _add_special_tokens(backend, folder, stored, config, tokenizer_class)
    if tokenizer_class == "CLIPTokenizer":
        bos, eos = names["bos_token"]["content"], names["eos_token"]["content"]
        ids = backend.get_vocab()
        backend.post_processor = processors.RobertaProcessing(
            (eos, ids[eos]), (bos, ids[bos]), trim_offsets=False, add_prefix_space=False
        )
    backend.no_truncation()
    return backend, names


def _clip_files(folder: Path, stored: Mapping) -> tuple[dict, list]:
    if not stored:
        vocab = read_json(read(folder / "vocab.json"), folder / "vocab.json")
        return vocab, parse_merges(read(folder / "merges.txt"), folder / "merges.txt")
    model = stored["model"]
    pairs = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    return model["vocab"], pairs


def _bert(folder: Path, stored: Mapping, config: Mapping) -> Tokenizer:
    if stored:
        vocab = stored["model"]["vocab"]
    else:
        path = folder / "vocab.txt"
        vocab = wordpiece.parse_vocab(read(path), str(path))
    backend = wordpiece.bert_backend(
        vocab,
        lower=config.get("do_lower_case", True),
        strip_accents=config.get("strip_accents"),
        split_cjk=config.get("tokenize_chinese_chars", True),
    )
    backend.post_processor = wordpiece.template(vocab, sep=True)
    return backend


def _add_special_tokens(
    backend: Tokenizer, folder: Path, stored: Mapping, config: Mapping, tokenizer_class: str
) -> dict[str, dict]:
    """Makes the backend know a folder's special and added tokens.

    Their spelling and flags come, as in transformers, from tokenizer_config.json if it has
    `added_tokens_decoder`, else from special_tokens_map.json, added_tokens.json, tokenizer.json.

    Returns:
      Key -> the token's fields.
    """
    names = DEFAULTS.get(tokenizer_class, {}) | {k: config[k] for k in KEYS if config.get(k)}
    added = {int(id): dict(token) for id, token in config.get("added_tokens_decoder", {}).items()}
    if "added_tokens_decoder" not in config:
        mapped = read_optional(folder / "special_tokens_map.json")
        names |= {key: mapped[key] for key in KEYS if mapped.get(key)}
        spelled = {_fields(token)["content"] for token in names.values()}
        for token, id in read_optional(folder / "added_tokens.json").items():
            special = token in spelled
            added[id] = dict(content=token, special=special, normalized=not special)
        for token in stored.get("added_tokens", ()):
            added[token["id"]] = {k: v for k, v in token.items() if k != "id"}
    by_text = {token["content"]: token for token in added.values()}
    names = {key: _fields(token) for key, token in names.items()}
    names = {key: {**by_text.get(t["content"], t), "special": True} for key, t in names.items()}
    extra = [*(added[id] for id in sorted(added)), *names.values()]
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    for token in extra:
        if token["content"] not in known:
            known.add(token["content"])
            token = AddedToken(**token)
            add = backend.add_special_tokens if token.special else backend.add_tokens
            add([token])
    return names


def _fields(token: str | Mapping) -> dict:
    """A special token's fields as an AddedToken has them."""
    if isinstance(token, str):
        return {"content": token, "normalized": False}
    return {key: value for key, value in token.items() if key != "__type"}
