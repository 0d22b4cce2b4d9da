# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The end of a run: report.json, report.md and samples of what the model says."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jvlm import versions, whole
from jvlm.config import construct, to_dict
from jvlm.data import images
from jvlm.data.order import sample_rng
from jvlm.data.preview import contact_sheet
from jvlm.data.sources import build_source
from jvlm.data.transforms import compose
from jvlm.errors import UserError
from jvlm.generation.options import Options
from jvlm.pretrained import Pretrained


def write(
    workdir: Path,
    pretrained: Pretrained,
    *,
    picture: Callable[[Pretrained], Image.Image] | None,
    texts: Callable[[Pretrained], list[tuple[str, str]]] | None = None,
    metrics: dict[str, float],
    steps: int,
    seconds: float,
    samples: int,
    bad_records: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes the report of a run.

    Args:
      workdir: the run.
      pretrained: the final model.
      picture: from `make_picture`.
      texts: from `make_texts`.
      metrics: of the final evaluation.
      steps: optimizer steps.
      seconds: spent on them, evaluations and earlier parts of a resumed run included.
      samples: seen in them.
      bad_records: records that had to be replaced, one line each.

    Returns:
      what report.json holds.
    """
    report = {
        "metrics": metrics,
        "config": to_dict(pretrained.run),
        "versions": versions.of_packages(),
        "device": device(),
        "steps": steps,
        "seconds": round(seconds, 2),
        "samples_per_second": round(samples / seconds, 2) if seconds else 0.0,
        "bad_records": list(bad_records),
    }
    sheet = None if picture is None else picture(pretrained)
    samples = [] if texts is None else texts(pretrained)
    if jax.process_index() == 0:
        if sheet is not None:
            sheet.save(workdir / "samples.png")
        (workdir / "report.md").write_text(to_markdown(report, sheet is not None, samples))
        whole.write_json(workdir / "report.json", report)  # Last: it says that the run has ended.
    return report


def read(workdir: Path) -> dict[str, Any] | None:
    """The report of a run that has ended, or None."""
    path = workdir / "report.json"
    return json.loads(path.read_text()) if path.exists() else None


def provenance(section: Mapping[str, Any]) -> dict[str, Any]:
    """What to tell with figures: the evaluators' config, versions and device."""
    return {"config": section, "versions": versions.of_packages(), "device": device()}


def device() -> str:
    """What the numbers were computed on, such as '8 x TPU v5 lite'."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


def make_picture(config: Any) -> Callable[[Pretrained], Image.Image] | None:
    """Prepares the picture of a config's `eval.picture`: `source`, `texts`, `count`, `pool`.

    Called before the training: a mistake in the section must not wait for its end.
    """
    section = config.eval.get("picture")
    if not section:
        return None
    return construct(best_captions, section.to_dict(), where="eval.picture")


def best_captions(
    source: dict, texts: str, count: int = 18, pool: int = 500
) -> Callable[[Pretrained], Image.Image]:
    """A contact sheet: the first images of a data set, each with its best of `pool` captions.

    Args:
      source: config of the data set.
      texts: the example's key with its captions.
      count: images.
      pool: captions to choose from, one per example.
    """
    data = build_source(source, where="eval.picture.source")
    try:
        examples = [data[index] for index in range(min(pool, len(data)))]
        pictures = [images.decode(example["image"]) for example in examples[:count]]
    except images.BadRecord as error:
        raise UserError(f"eval.picture.source: {error}") from None
    if texts not in examples[0]:
        raise UserError(f"eval.picture.texts: no {texts!r} in {sorted(examples[0])}")
    captions = [e[texts] if isinstance(e[texts], str) else e[texts][0] for e in examples]
    captions = list(dict.fromkeys(captions))

    def draw(pretrained: Pretrained) -> Image.Image:
        scores = pretrained.embed_images(pictures) @ pretrained.embed_text(captions).T
        return contact_sheet(pictures, [captions[i] for i in np.argmax(scores, axis=1)])

    return draw


def make_texts(config: Any) -> Callable[[Pretrained], list[tuple[str, str]]] | None:
    """Prepares the texts of a config's `eval.texts`, see `continuations`.

    Called before the training, as `make_picture`.
    """
    section = config.eval.get("texts")
    if not section:
        return None
    return construct(continuations, section.to_dict(), where="eval.texts")


def continuations(
    source: dict,
    prompt: str,
    transforms: Sequence = (),
    count: int = 12,
    options: Mapping[str, Any] | None = None,
) -> Callable[[Pretrained], list[tuple[str, str]]]:
    """Prompts of a data set, each with what the model says next.

    Args:
      source: config of the data set.
      prompt: template of a prompt, filled from an example: '{question}'.
      transforms: steps before it is.
      count: examples.
      options: of `Pretrained.generate`, see `generation.Options`.
    """
    construct(Options, options or {}, where="eval.texts.options")
    data = build_source(source, where="eval.texts.source")
    chain = compose(transforms, where="eval.texts.transforms")
    try:
        examples = [chain(data[i], sample_rng(0, i)) for i in range(min(count, len(data)))]
    except images.BadRecord as error:
        raise UserError(f"eval.texts.source: {error}") from None
    try:
        prompts = [prompt.format_map(example) for example in examples]
    except KeyError as error:
        raise UserError(f"eval.texts.prompt: no {error} in {sorted(examples[0])}") from None

    def write(pretrained: Pretrained) -> list[tuple[str, str]]:
        return list(zip(prompts, pretrained.generate(prompts=prompts, **options or {})))

    return write


def metric_table(metrics: Mapping[str, float]) -> list[str]:
    """Metrics as lines of Markdown."""
    return ["| metric | value |", "|---|---|", *(f"| {k} | {v:.4f} |" for k, v in metrics.items())]


def to_markdown(
    report: dict[str, Any], has_picture: bool, samples: Sequence[tuple[str, str]] = ()
) -> str:
    """The report for people."""
    lines = ["# Report", "", *metric_table(report["metrics"])]
    lines += [
        "",
        f"{report['steps']:,} steps in {report['seconds']:.0f} s on {report['device']}, "
        f"{report['samples_per_second']:.0f} samples/s.",
        "",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in report["versions"].items()) + ".",
    ]
    if has_picture:
        lines += ["", "Images of the evaluation set, each with the best of its captions:", ""]
        lines += ["![samples](samples.png)"]
    if samples:
        cell = lambda text: " ".join(text.split()).replace("|", "\\|")
        lines += ["", "| prompt | what the model says next |", "|---|---|"]
        lines += [f"| {cell(prompt)} | {cell(text)} |" for prompt, text in samples]
    if report["bad_records"]:
        lines += ["", "Unusable records that were replaced:", ""]
        lines += [f"- {line}" for line in report["bad_records"]]
    lines += ["", "## Config", "", "```json", json.dumps(report["config"], indent=1), "```"]
    return "\n".join(lines) + "\n"
