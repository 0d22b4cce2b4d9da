# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Arguments that verbs share, and how they answer."""

import argparse
import json
import os
import sys
from collections.abc import Sequence


def add_config(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.set_defaults(overrides=[])
    parser.add_argument(
        "--config",
        required=required,
        metavar="FILE.py[:ARGS]",
        help="config file, or a name below configs/; --config.key=value changes an entry",
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="published folder or file; a jvlm model")
    parser.add_argument("--family", help="of a file that does not tell: clip, open_clip, ...")
    parser.add_argument(
        "--variant",
        help="its size, such as ViT-B/32; of ALBEF and BLIP: original or lavis; what a pretraining "
        "file of BLIP is read as: captioner, retrieval, itm, vqa",
    )


def family(args: argparse.Namespace) -> dict:
    return {"family": args.family, "variant": args.variant}


def add_forms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quantise", metavar="KIND", help="keep layers' kernels as int8 or int4")
    parser.add_argument("--adapter", metavar="DIR", help="LoRA adapter in PEFT's format")


def forms(args: argparse.Namespace) -> dict:
    return {"quantise": args.quantise, "adapter": args.adapter}


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="run, or published checkpoint"
    )
    add_json(parser)


# Option -> (how it is read, its help); names and meaning are `generation.Options`'.
_GENERATION = {
    "max_new_tokens": (int, "tokens at most (default 64; of short answers the model's own)"),
    "min_new_tokens": (int, "no end before so many tokens"),
    "num_beams": (int, "width of beam search (default 1, none)"),
    "num_return_sequences": (int, "samples, or best beams, per prompt (default 1)"),
    "temperature": (float, "draw tokens at this temperature; 0, the default, takes the likeliest"),
    "top_k": (int, "draw from the k likeliest tokens"),
    "top_p": (float, "draw from the likeliest tokens that have probability p together"),
    "length_penalty": (float, "beams: exponent of the length that scores are divided by (1)"),
    "repetition_penalty": (float, "above 1 makes tokens that were there unlikelier (1)"),
    "no_repeat_ngram_size": (int, "no so many tokens in a row twice"),
    "eos_token_id": (int, "another end token than the checkpoint's"),
    "pad_token_id": (int, "another padding token than the checkpoint's"),
    "seed": (int, "of samples (default 0)"),
}


def add_generation(parser: argparse.ArgumentParser, default: str = "greedy by default") -> None:
    """The options of every verb that writes text; `default` says how, without any."""
    group = parser.add_argument_group("generation", default)
    for name, (kind, text) in _GENERATION.items():
        group.add_argument(f"--{name}", type=kind, help=text)
    group.add_argument(
        "--do_sample", action="store_const", const=True, help="draw tokens, at temperature 1"
    )
    group.add_argument(
        "--early_stopping",
        choices=("true", "false", "never"),
        help="beams: end when enough have ended; when none can get better soon (false); ever",
    )
    group.add_argument(
        "--beam_search",
        choices=("new", "early"),
        help="beams: how transformers searches, or did before 4.36 (BLIP's captions)",
    )
    group.add_argument(
        "--allowed_text",
        action="append",
        dest="allowed_texts",
        metavar="TEXT",
        help="answer with this text, or another one so given, only; may be repeated",
    )
    group.add_argument(
        "--bad_words_ids",
        type=json.loads,
        metavar="JSON",
        help="id sequences to avoid: [[5],[7,8]]",
    )


def generation(args: argparse.Namespace) -> dict:
    """Those that were given."""
    named = ("do_sample", "early_stopping", "beam_search", "allowed_texts", "bad_words_ids")
    names = (*_GENERATION, *named)
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if options.get("early_stopping") in ("true", "false"):
        options["early_stopping"] = options["early_stopping"] == "true"
    return options


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def show(args: argparse.Namespace, value, lines: Sequence[str]) -> None:
    print(json.dumps(value) if args.json else "\n".join(lines))


def end(status: int) -> None:
    """Ends the process without waiting for background threads of a run that has failed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
