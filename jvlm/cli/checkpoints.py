# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm import | export | inspect`."""

import argparse

from jvlm.cli import options


def add(verb) -> None:
    """Adds these verbs to the command line; `verb` makes one."""
    import_ = verb("import", run_import, "Turn a published checkpoint into a jvlm model.")
    options.add_source(import_)
    import_.add_argument("destination", metavar="DST", help="folder, new or empty")
    import_.add_argument("--image_size", type=int, help="another side in pixels than trained with")
    import_.add_argument("--dtype", help="of the weights: float32 (default) or bfloat16")
    options.add_forms(import_)
    import_.add_argument("--merge", action="store_true", help="add the adapter to the weights")
    options.add_json(import_)

    export = verb("export", run_export, "Write a model in a published format.")
    options.add_source(export)
    export.add_argument("destination", metavar="DST", help="folder, new or empty")
    export.add_argument(
        "--format",
        default="hf",
        help="hf (default, transformers), open_clip, albef or blip (their own code's .pth), peft",
    )
    export.add_argument("--dtype", default="float32", help="float32 (default), float16 or bfloat16")
    options.add_json(export)

    inspect = verb("inspect", run_inspect, "Say what a checkpoint is, and what does not fit.")
    options.add_source(inspect)
    inspect.add_argument("--tensors", action="store_true", help="list every tensor")
    options.add_json(inspect)


def run_import(args: argparse.Namespace) -> None:
    from jvlm.pretrained import load

    given = {**options.family(args), **options.forms(args)}
    m = load(args.source, dtype=args.dtype, image_size=args.image_size, **given)
    m = m.merge_adapters() if args.merge else m
    m.save(args.destination)
    options.show(args, {"path": args.destination}, [f"wrote {args.destination}: {m.describe()}"])


def run_export(args: argparse.Namespace) -> None:
    from jvlm.pretrained import load

    m = load(args.source, **options.family(args))
    m.export(args.destination, format=args.format, dtype=args.dtype)
    options.show(args, {"path": args.destination}, [f"wrote {args.destination}: {m.describe()}"])


def run_inspect(args: argparse.Namespace) -> None:
    from jvlm.convert import inspect

    facts = inspect(args.source, **options.family(args))
    lines = [f"{key}: {value}" for key, value in facts.items() if key not in ("config", "tensors")]
    lines += [f"{key} = {value}" for key, value in facts["config"].items()]
    if args.tensors:
        lines += [f"{key} {shape}" for key, shape in facts["tensors"].items()]
    else:
        del facts["tensors"]
    options.show(args, facts, lines)
