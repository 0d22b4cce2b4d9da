# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm data`."""

import argparse
import sys

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
    add_data_dir(prepare)

    info = action("info", run_info, "Describe a data set: sizes, lengths, answers, damage.")
    add_name(info)
    info.add_argument("--sample", type=int, default=1000, help="examples to read (default 1,000)")
    info.add_argument("--all", action="store_true", help="read all examples")

    preview = action("preview", run_preview, "Draw some of a data set on a sheet.")
    add_name(preview)
    preview.add_argument("--count", type=int, default=12, help="examples of each split (12)")
    preview.add_argument("--font", metavar="FILE", help="default: one here that has the letters")
    preview.add_argument("--out", default="preview.png", help="PNG of the preview")

    import_ = action("import", run_import, "Turn a published data set into one of array_record.")
    import_.add_argument("kind", metavar="KIND", help="format of the annotation; see --kinds")
    import_.add_argument("source", metavar="SRC", help="its file, or the folder of its files")
    import_.add_argument("destination", metavar="DST", help="new folder; names the data set")
    import_.add_argument("--kinds", action=_ListKinds, help="list the formats")
    import_.add_argument("--images", metavar="DIR", help="of the pictures (default: SRC's folder)")
    import_.add_argument("--workers", type=int, help="processes (default: one per core)")
    import_.add_argument(
        "--max-bad", type=float, default=0.05, metavar="SHARE", help="end if more is bad (0.05)"
    )
    import_.add_argument(
        "--resize", type=int, metavar="PX", help="shrink larger pictures' shorter side; JPEG at 95"
    )
    import_.add_argument(
        "--link", action="store_true", help="store paths of pictures, relative to --images"
    )
    import_.add_argument("--frames", type=int, default=8, help="pictures of a video (default 8)")


class _ListKinds(argparse.Action):
    """`--kinds`, which like --help needs no other argument; --help must not import the library."""

    def __init__(self, option_strings, dest, **options):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)

    def __call__(self, parser, namespace, values, option_string=None):
        from jvlm.data.importers import KINDS

        width = max(map(len, KINDS))
        print("\n".join(f"{name:{width}}  {KINDS[name].help}" for name in sorted(KINDS)))
        parser.exit()


def add_name(parser: argparse.ArgumentParser) -> None:
    """Arguments that say which data set."""
    parser.add_argument(
        "name",
        help="prepared data set, such as digit_scenes/small; folder, file or pattern of tar "
        "shards, Parquet, JSON lines, CSV or pictures; or a config",
    )
    parser.add_argument("--kind", help="of files, where their names do not tell")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        dest="options",
        metavar="KEY=VALUE",
        help="of that kind of source, such as image_key=filepath; may be repeated",
    )
    parser.add_argument("--split", help="of a prepared data set, or of a mixture (default all)")
    add_data_dir(parser)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data_dir", help="default $TFDS_DATA_DIR or ~/tensorflow_datasets")


def named(args: argparse.Namespace) -> dict:
    """The options of `add_name` for `data.named.open_named`."""
    return {key: getattr(args, key) for key in ("kind", "options", "split", "data_dir")}


def run_prepare(args: argparse.Namespace) -> None:
    from jvlm.data import commands

    places = commands.prepare(args.name, args.data_dir, args.overrides)
    options.show(args, {"paths": places}, [f"ready: {place}" for place in places])


def run_info(args: argparse.Namespace) -> None:
    from jvlm.data import commands, describe

    info = commands.info(args.name, sample=None if args.all else args.sample, **named(args))
    options.show(args, info, describe.to_lines(info, info["sample"]))


def run_preview(args: argparse.Namespace) -> None:
    from jvlm.data import commands

    notes = commands.preview(
        args.name, count=args.count, out=args.out, font=args.font, **named(args)
    )
    options.show(args, {"path": args.out, "notes": notes}, [*notes, f"wrote {args.out}"])


def run_import(args: argparse.Namespace) -> None:
    import dataclasses

    from jvlm.data.importers import engine, report

    try:
        summary = engine.import_data(
            args.kind,
            args.source,
            args.destination,
            images=args.images,
            options=engine.Options(args.resize, args.link, args.frames),
            workers=args.workers,
            max_bad=args.max_bad,
        )
    except KeyboardInterrupt:
        print(f"jvlm: the same command goes on with {args.destination}.part", file=sys.stderr)
        raise
    options.show(args, dataclasses.asdict(summary), report.describe(summary))
