# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm data`."""

import argparse

from jvlm.cli import options


def add(verb) -> None:
    """Adds these verbs to the command line; `verb` makes one."""
    data = verb("data", None, "Prepare a data set, describe it, or look at it.")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, run, text: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(run=run)
        options.add_json(sub)
        return sub

    prepare = action("prepare", run_prepare, "Make an embedded data set, unless it is there.")
    prepare.add_argument("name", help="such as digit_scenes/small, or a config: those it reads")
    prepare.set_defaults(overrides=[])
    _add_data_dir(prepare)

    info = action("info", run_info, "Describe a data set.")
    info.add_argument("name", help="data set, such as digit_scenes/small")
    _add_data_dir(info)

    preview = action("preview", run_preview, "Draw some of a data set on a sheet.")
    preview.add_argument("name", help="data set, such as digit_scenes/small")
    _add_data_dir(preview)
    preview.add_argument("--split", default="train", help="default train")
    preview.add_argument("--count", type=int, default=24, help="images (default 24)")
    preview.add_argument("--out", default="preview.png", help="PNG of the preview")


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data_dir", help="default $TFDS_DATA_DIR or ~/tensorflow_datasets")


def run_prepare(args: argparse.Namespace) -> None:
    from jvlm.data import commands

    places = commands.prepare(args.name, args.data_dir, args.overrides)
    options.show(args, {"paths": places}, [f"ready: {place}" for place in places])


def run_info(args: argparse.Namespace) -> None:
    from jvlm.data import commands

    info = commands.info(args.name, args.data_dir)
    lines = [f"{args.name} {info['version']} in {info['path']}", info["description"]]
    lines += [f"  split {split}: {size:,} examples" for split, size in info["splits"].items()]
    lines += [f"  {name}: {kind}" for name, kind in info["features"].items()]
    options.show(args, info, lines)


def run_preview(args: argparse.Namespace) -> None:
    from jvlm.data import commands

    commands.preview(args.name, args.split, args.data_dir, args.count, args.out)
    options.show(args, {"path": args.out}, [f"wrote {args.out}"])
