# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm capfilt`: captions web pairs, and keeps what fits."""

import argparse
from pathlib import Path

from jvlm.cli import data, options, tasks


def add(verb) -> None:
    """Adds this verb to the command line; `verb` makes one."""
    capfilt = verb(
        "capfilt", run_capfilt, "Bootstrap web pairs: write captions, drop those that do not fit."
    )
    data.add_name(capfilt)
    capfilt.add_argument("--captioner", required=True, metavar="DIR", help="run, or checkpoint")
    capfilt.add_argument("--filter", required=True, metavar="DIR", help="run, or checkpoint")
    capfilt.add_argument("--out", required=True, metavar="FOLDER", help="it goes on with its own")
    capfilt.add_argument("--prompt", help="of captions (default: the captioner's)")
    capfilt.add_argument(
        "--threshold", type=float, default=0.5, help="least probability of a match (0.5)"
    )
    capfilt.add_argument(
        "--text_key",
        metavar="KEY",
        help="entry with the web captions (default: caption, captions, text or title)",
    )
    capfilt.add_argument("--batch_size", type=int, default=64, help="images at a time (64)")
    capfilt.add_argument("--shard_size", type=int, default=1000, help="images to a shard (1000)")
    capfilt.add_argument(
        "--shard",
        type=_shard,
        default=(0, 1),
        metavar="I/N",
        help="of N machines that share FOLDER this is number I, from 0 on",
    )
    capfilt.add_argument(
        "--max_bad_share", type=float, default=0.05, help="unreadable images to bear (0.05)"
    )
    capfilt.add_argument("--dtype", help="float32 or bfloat16; default as trained")
    options.add_generation(
        capfilt, "default: nucleus sampling with top_p 0.9; --num_beams N searches in its place"
    )
    options.add_json(capfilt)


def run_capfilt(args: argparse.Namespace) -> None:
    from jvlm import distributed
    from jvlm.capfilt import bootstrap
    from jvlm.data.named import open_named
    from jvlm.errors import UserError

    parts = open_named(args.name, **data.named(args)).parts
    if len(parts) > 1:
        raise UserError(f"{args.name} has {', '.join(parts)}: choose one with --split")
    chosen = options.generation(args)
    with distributed.joined():
        captioner = tasks.load_on_all_devices(args.captioner, dtype=args.dtype)
        same = args.filter == args.captioner
        result = bootstrap(
            next(iter(parts.values())),
            captioner,
            captioner if same else tasks.load_on_all_devices(args.filter, dtype=args.dtype),
            args.out,
            options=chosen,
            prompt=args.prompt,
            threshold=args.threshold,
            text_key=args.text_key,
            batch_size=args.batch_size,
            shard_size=args.shard_size,
            shard=args.shard,
            max_bad_share=args.max_bad_share,
        )
    tasks.warn_bad(result["bad"])
    options.show(args, result, _lines(result))


def _lines(result: dict) -> list[str]:
    from jvlm.capfilt.report import usage

    out, report = Path(result["out"]), result["report"]
    if report is None:
        return [f"{result['images']:,} images done; {result['missing']} shards are still missing"]
    lines = [f"{name:24} {value:.4f}" for name, value in report["metrics"].items()]
    lines.append(f"report: {out / 'report.md'}")
    kept = report["counts"]["images"]["kept"]
    lines.append(f"read it with {usage(out)}" if kept else "no caption was kept: no data set")
    return lines


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    try:
        return int(index), int(count)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give I/N, such as 0/4") from None
