# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A published folder's tokenizer, with the ids that transformers' AutoTokenizer gives."""

import functools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
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

END_OF_TEXT = "<|endoftext|>"
# In the order in which transformers adds them.
KEYS = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
DEFAULTS = {
    "CLIPTokenizer": {"bos_token": SOT, "eos_token": EOT, "unk_token": EOT, "pad_token": EOT},
    "BertTokenizer": wordpiece.SPECIAL | {"mask_token": wordpiece.MASK},
    "GPT2Tokenizer": {f"{name}_token": END_OF_TEXT for name in ("bos", "eos", "unk")},
    "LlamaTokenizer": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "RobertaTokenizer": {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "cls_token": "<s>",
        "mask_token": "<mask>",
    },
    "T5Tokenizer": {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
}


class HubTokenizer(Base):
    """A `tokenizer.json`, padded with the folder's pad token, or the end token where it has none.

    The mask is True up to the end of the text, so where the pad token is the end token (CLIP) the
    first one is real and the rest is padding.

    Attributes: see `tokenizers.Tokenizer`; eos_id is [SEP] for vocabularies without an end token,
      and bos_id [CLS] for those without a start token.
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
          UserError: no end token.
        """
        super().__init__(files, max_len=max_len, clean=clean, strip_sep=strip_sep)
        self._clean = cleaning.choose(clean)
        config = json.loads(files["tokenizer_config.json"])
        self._backend = Tokenizer.from_str(files["tokenizer.json"].decode())
        self._backend.no_padding()
        self._backend.no_truncation()
        self.vocab_size = max(self._backend.get_vocab().values()) + 1
        self.eos_id = self._id(config, "eos_token", "sep_token")
        if self.eos_id is None:
            raise UserError("tokenizer: no eos_token or sep_token in tokenizer_config.json")
        self.bos_id = self._id(config, "bos_token", "cls_token")
        pad = self._id(config, "pad_token")
        self.pad_id = self.eos_id if pad is None else pad
        self._sep = self._id(config, "sep_token") if strip_sep else None
        self._start, self._end = _around(self._backend, self._backend.id_to_token(self.eos_id))
        model = self._backend.model
        self._suffix = getattr(model, "end_of_word_suffix", None)
        self._bytes = set()
        if getattr(model, "byte_fallback", False):
            tokens = (f"<0x{byte:02X}>" for byte in range(256))
            self._bytes = {self._backend.token_to_id(token) for token in tokens}

    @classmethod
    def read(
        cls, folder: str | os.PathLike, tokenizer_class: str, max_len: int, **options
    ) -> "HubTokenizer":
        """Builds what transformers builds from a folder.

        As transformers does, it makes CLIP's and BERT's tokenizers from vocabulary and options,
        wherever these lie. All others are as their tokenizer.json says, or where there is none made
        from vocab.json and merges.txt (GPT-2, OPT, RoBERTa).

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

    def pieces(self, text: str) -> list[int]:
        return self._backend.encode(self._clean(text), add_special_tokens=False).ids

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoding = self._untrimmed.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    @functools.cached_property
    def _untrimmed(self) -> Tokenizer:
        """Without what follows tokenization, which may take spaces off the offsets."""
        backend = Tokenizer.from_str(self._backend.to_str())
        backend.post_processor = processors.Sequence([])
        return backend

    def encode(self, text: str, **options) -> list[int]:
        ids = super().encode(text, **options)
        if self._sep is not None:
            ids = ids[:-1] if ids[-1] == self._sep else ids
            ids = [self.pad_id if id == self._sep else id for id in ids]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        text = self._backend.decode([int(i) for i in ids], skip_special_tokens=True)
        return text.replace(self._suffix, " ").strip() if self._suffix else text

    def settled(self, ids: Sequence[int]) -> int:
        # One byte that fits no character makes the backend show the whole run of bytes as unknown.
        count = len(ids)
        while count and ids[count - 1] in self._bytes:
            count -= 1
        return count

    def export(self, folder: str | os.PathLike) -> None:
        """Writes tokenizer.json, its configuration, and the vocabulary files of its kind."""
        config = json.loads(self._files["tokenizer_config.json"])
        names = {key: config[key]["content"] for key in KEYS if config.get(key)}
        write_files(folder, self._files | {"special_tokens_map.json": names})
        self._backend.model.save(str(folder))

    def _id(self, config: Mapping, *keys: str) -> int | None:
        token = next((config[key]["content"] for key in keys if config.get(key)), None)
        return None if token is None else self._backend.token_to_id(token)


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


def byte_level_backend(
    vocab: Mapping[str, int], merges: list[tuple[str, str]], prefix_space: bool = False
) -> Tokenizer:
    """The BPE over bytes of GPT-2, OPT and RoBERTa; nothing is repaired or added."""
    model = models.BPE(
        dict(vocab), merges, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False
    )
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
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
        backend = clip_backend(*_bpe_files(folder, stored))
    elif tokenizer_class == "BertTokenizer":
        backend = _bert(folder, stored, config)
    elif tokenizer_class in ("GPT2Tokenizer", "RobertaTokenizer") and not stored:
        prefix_space = config.get("add_prefix_space", False)
        backend = byte_level_backend(*_bpe_files(folder, stored), prefix_space)
    else:
        backend = Tokenizer.from_str(read(path).decode())
    names = _add_special_tokens(backend, folder, stored, config, tokenizer_class)
    token = {key: names[key]["content"] for key in ("bos_token", "eos_token") if key in names}
    around = [config.get(f"add_{key}") for key in ("bos_token", "eos_token")]
    if tokenizer_class == "CLIPTokenizer" or (tokenizer_class == "RobertaTokenizer" and not stored):
        around = [True, True]
    if tokenizer_class != "BertTokenizer" and around != [None, None]:
        backend.post_processor = _template(
            backend,
            [token["bos_token"]] if around[0] and "bos_token" in token else [],
            [token["eos_token"]] if around[1] and "eos_token" in token else [],
        )
    return backend, names


def _template(
    backend: Tokenizer, start: list[str], end: list[str]
) -> processors.TemplateProcessing:
    """`start` text `end`."""
    special = [(token, backend.token_to_id(token)) for token in {*start, *end}]
    return processors.TemplateProcessing(single=[*start, "$A", *end], special_tokens=special)


def _around(backend: Tokenizer, token: str) -> tuple[list[int], list[int]]:
    """What the backend puts before and behind every text; `token` is a text of one token."""
    encoding = backend.encode(token)
    place = encoding.special_tokens_mask.index(0)
    return encoding.ids[:place], encoding.ids[place + 1 :]


def _bpe_files(folder: Path, stored: Mapping) -> tuple[dict, list]:
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

    Returns:
      Key -> the token's fields.
    """
    names, added = special_tokens(folder, stored, config, tokenizer_class)
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    for token in [*(added[id] for id in sorted(added)), *names.values()]:
        if token["content"] not in known:
            known.add(token["content"])
            token = AddedToken(**token)
            add = backend.add_special_tokens if token.special else backend.add_tokens
            add([token])
    return names


def special_tokens(
    folder: Path, stored: Mapping, config: Mapping, tokenizer_class: str
) -> tuple[dict[str, dict], dict[int, dict]]:
    """A folder's special and added tokens.

    Their spelling and flags come, as in transformers, from tokenizer_config.json if it has
    `added_tokens_decoder`, else from special_tokens_map.json, added_tokens.json, tokenizer.json.

    Args:
      folder: the published folder.
      stored: content of its tokenizer.json, or {}.
      config: of its tokenizer_config.json, or {}.
      tokenizer_class: transformers' name without 'Fast'.

    Returns:
      (key -> the special token's fields, id -> the added token's).
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
    return names, added


def _fields(token: str | Mapping) -> dict:
    """A special token's fields as an AddedToken has them."""
    if isinstance(token, str):
        return {"content": token, "normalized": False}
    return {key: value for key, value in token.items() if key != "__type"}
