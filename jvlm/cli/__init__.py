# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm <verb>`: each verb a thin call into the library.

Nothing heavy is imported before a verb runs, so --help answers at once.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence

from jvlm import __version__
from jvlm.cli import capfilt, checkpoints, data, options, pairs, runs, score, tasks
from jvlm.errors import UserError, did_you_mean


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0, 1 for a plan that does not fit, or an error's status and line."""
    parser = make_parser()
    arguments = list(sys.argv[1:] if argv is None else argv)
    args, rest = parser.parse_known_args(arguments)
    try:
        overrides = [
            item.removeprefix("--config.") for item in rest if item.startswith("--config.")
        ]
        unknown = [item for item in rest if not item.startswith("--config.")]
        if unknown or (overrides and not hasattr(args, "overrides")):
            word = (unknown or rest)[0]
            known = [option for option in vars(args) if option not in ("verb", "run")]
            hint = did_you_mean(word.lstrip("-").split("=")[0], known)
            raise UserError(f"unknown argument {word}.{hint} See jvlm {args.verb} --help.")
        if hasattr(args, "overrides"):
            args.overrides = overrides
        args.run(args)
    except UserError as error:
        print("jvlm:", " ".join(str(error).split()), file=sys.stderr)
        options.end(error.status)
    except KeyboardInterrupt:
        print("jvlm: interrupted", file=sys.stderr)
        options.end(130)
    except Exception:  # A mistake of ours. JAX's way out would wait for the run's other processes.
        traceback.print_exc()
        options.end(1)


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(prog="jvlm", description="Vision-language models in JAX.")
    parser.add_argument("--version", action="version", version=f"jvlm {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)

    def verb(name: str, run, text: str) -> argparse.ArgumentParser:
        # allow_abbrev: '--conf.steps=3' must not be taken for '--config'.
        sub = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    for group in (runs, data, checkpoints, tasks, pairs, capfilt, score):
        group.add(verb)
    return parser


class _Parser(argparse.ArgumentParser):
    """One line for a wrong command line, not a page of usage."""

    def error(self, message: str):
        print(f"{self.prog}: {message}. See {self.prog} --help.", file=sys.stderr)
        sys.exit(2)
