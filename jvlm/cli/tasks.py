# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm classify | embed | search | caption | generate`: what models do with images, or text."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jvlm.cli import options


def add(verb) -> None:
    """Adds these verbs to the command line; `verb` makes one."""
    classify = verb("classify", run_classify, "Zero-shot classification of image files.")
    classify.add_argument("images", nargs="+", metavar="IMAGE")
    classify.add_argument("--labels", required=True, nargs="+", help="class names")
    prompts = classify.add_mutually_exclusive_group()
    prompts.add_argument("--template", action="append", help="prompt with {}; may be repeated")
    prompts.add_argument(
        "--templates", help="a known set, such as imagenet, or one of a file: FILE.json:NAME"
    )
    options.add_model(classify)

    embed = verb("embed", run_embed, "Write the embeddings of images or texts into files.")
    what = embed.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", nargs="+", metavar="PATH", help="image files, or folders")
    what.add_argument("--texts", metavar="FILE.txt", help="one text a line")
    embed.add_argument(
        "--out",
        required=True,
        help="OUT.npz, OUT.parquet, or a folder of parts, which is resumed when it is there",
    )
    embed.add_argument("--shard_size", type=int, help="inputs a part of a folder (default 65536)")
    embed.add_argument("--batch_size", type=int, default=256, help="rows at a time (default 256)")
    embed.add_argument("--dtype", default="float32", help="of the files: float32 or float16")
    embed.add_argument(
        "--max_bad_share", type=float, default=0.01, help="unreadable images to bear (0.01)"
    )
    options.add_model(embed)

    search = verb("search", run_search, "Find the images that fit a text or an image.")
    search.add_argument("query", help="what to look for")
    search.add_argument("--image_query", action="store_true", help="the query is an image file")
    where = search.add_mutually_exclusive_group(required=True)
    where.add_argument("--images", help="folder, searched with its subfolders; its index is kept")
    where.add_argument("--index", help="what jvlm embed wrote")
    search.add_argument("--cache", help="where indexes are kept (default $XDG_CACHE_HOME/jvlm)")
    search.add_argument("--top", type=int, default=5, help="how many to show (default 5)")
    search.add_argument(
        "--rerank",
        type=int,
        metavar="K",
        help="look at the best K a second time, together with the query, and order them by that",
    )
    options.add_model(search)

    caption = verb("caption", run_caption, "Say in a sentence what is in images.")
    caption.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders")
    caption.add_argument("--prompt", help="what captions begin with (default the model's own)")
    caption.add_argument("--dtype", help="float32 or bfloat16; default as trained")
    options.add_forms(caption)
    options.add_generation(caption, "by default as the model's paper has it: beams, short")
    options.add_model(caption)

    generate = verb("generate", run_generate, "Continue prompts with a language model.")
    generate.add_argument("prompts", nargs="+", metavar="PROMPT", help="text; - reads lines")
    generate.add_argument("--dtype", help="float32 or bfloat16; default as trained")
    options.add_forms(generate)
    options.add_generation(generate)
    options.add_model(generate)


def run_classify(args: argparse.Namespace) -> None:
    from jvlm.pretrained import load

    templates = args.templates or args.template or ["{}"]
    probabilities = load(args.model).classify(args.images, args.labels, templates)
    results, lines = [], []
    for image, row in zip(args.images, probabilities.tolist()):
        ranked = sorted(zip(args.labels, row), key=lambda pair: -pair[1])
        results.append({"image": image, "probabilities": dict(ranked)})
        lines.append(f"{image}: " + ", ".join(f"{label} {p:.1%}" for label, p in ranked[:5]))
    options.show(args, results, lines)


def run_embed(args: argparse.Namespace) -> None:
    from jvlm import distributed
    from jvlm.embeddings import embed
    from jvlm.evaluators.templates import read_lines

    if args.images:
        kind, inputs = "images", _image_files(args.images)
    else:
        kind, inputs = "texts", read_lines(args.texts)
    with distributed.joined():
        result = embed(
            load_on_all_devices(args.model),
            kind,
            inputs,
            args.out,
            dtype=args.dtype,
            shard_size=args.shard_size,
            batch_size=args.batch_size,
            max_bad_share=args.max_bad_share,
        )
    warn_bad(result["bad"])
    line = f"wrote {result['count']:,} embeddings of {result['dim']} numbers to {args.out}"
    options.show(args, result, [line])


def run_search(args: argparse.Namespace) -> None:
    from jvlm import embeddings
    from jvlm.errors import UserError
    from jvlm.search import folder_index, rerank, search

    if args.top < 1:
        raise UserError(f"--top {args.top}: show at least 1")
    model = load_on_all_devices(args.model)
    if args.rerank is not None:
        if args.rerank < 1:
            raise UserError(f"--rerank {args.rerank}: look at 1 or more again")
        model.check_match()  # Before a folder is embedded.
    embed = model.embed_images if args.image_query else model.embed_text
    query = embed([args.query])
    if args.index:
        parts, identity = embeddings.read(args.index), embeddings.fingerprint(model)
    else:
        index, bad = folder_index(model, args.images, cache=args.cache)
        warn_bad(bad)
        parts, identity = [index], None
    if args.rerank is None:
        results, key = search(query, parts, args.top, identity)[0], "score"
    else:
        found = search(query, parts, args.rerank, identity)[0]
        kind = "image" if args.image_query else "text"
        results, key = rerank(model, {kind: args.query}, found)[: args.top], "match"
    options.show(args, results, [f"{r[key]:.4f}  {r.get('image', r.get('text'))}" for r in results])


def run_caption(args: argparse.Namespace) -> None:
    images, chosen = _image_files(args.images), options.generation(args)
    model = load_on_all_devices(args.model, dtype=args.dtype, **options.forms(args))
    texts = model.caption(images, args.prompt, **chosen)
    each = len(texts) // len(images)
    groups = [texts[i * each : (i + 1) * each] for i in range(len(images))]
    results = [
        {"image": image, "caption": group[0], "captions": group}
        for image, group in zip(images, groups)
    ]
    pairs = [(image, text) for image, group in zip(images, groups) for text in group]
    options.show(args, results, [f"{image}: {text}" for image, text in pairs])


def run_generate(args: argparse.Namespace) -> None:
    from jvlm.generation import make_options
    from jvlm.pretrained import load

    prompts = []
    for prompt in args.prompts:
        prompts += sys.stdin.read().splitlines() if prompt == "-" else [prompt]
    chosen = options.generation(args)
    model = load(args.model, dtype=args.dtype, **options.forms(args))
    choice = {name: value for name, value in chosen.items() if name != "allowed_texts"}
    several = make_options(choice, model.generation).width > 1  # The checkpoint may ask for it.
    if len(prompts) == 1 and not several and not args.json:
        for text in model.stream(prompts[0], **chosen):
            print(text, end="", flush=True)
        print()
        return
    texts = model.generate(prompts=prompts, **chosen)
    each = len(texts) // len(prompts)
    groups = [texts[i * each : (i + 1) * each] for i in range(len(prompts))]
    results = [{"prompt": prompt, "texts": group} for prompt, group in zip(prompts, groups)]
    options.show(args, results, texts)


def _image_files(names: Sequence[str]) -> list[str]:
    """Files, and those of folders with their subfolders."""
    from jvlm.data.sources.folder import image_files

    found = [image_files(name) if Path(name).is_dir() else [name] for name in names]
    return [file for files in found for file in files]


def load_on_all_devices(path: str, **how):
    """Loads a model for bulk work: a batch is spread over the devices of this host."""
    import jax

    from jvlm import sharding
    from jvlm.pretrained import load

    return load(path, mesh=sharding.make_mesh(devices=jax.local_devices()), **how)


def warn_bad(lines: Sequence[str]) -> None:
    """Names the first images that were left out."""
    for line in lines[:10]:
        print(f"jvlm: left out: {line}", file=sys.stderr)
    if len(lines) > 10:
        print(f"jvlm: and {len(lines) - 10} more", file=sys.stderr)
