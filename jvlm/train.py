# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The training loop: one function, read from top to bottom. It never knows which paper it runs."""

import contextlib
import functools
import json
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from jvlm import config as config_lib
from jvlm import distributed, paths, report, sharding, warm_start
from jvlm.checkpoint import Checkpoints, content_hash
from jvlm.data.examples import entry
from jvlm.data.images import BadRecord
from jvlm.data.mixture import Mixture
from jvlm.data.pipeline import TrainBatches
from jvlm.data.sources import Source, build_source
from jvlm.data.transforms import compose
from jvlm.errors import Preempted, UserError
from jvlm.evaluators import build_evaluators, evaluate
from jvlm.flops import step_flops
from jvlm.logs import Log, parameter_table
from jvlm.meter import Meter
from jvlm.pretrained import Pretrained, Processor, load
from jvlm.step import Training, build_step
from jvlm.tokenizers import build_tokenizer
from jvlm.trace import Trace
from jvlm.whole import write_json


def train(
    config: ml_collections.ConfigDict,
    workdir: str | Path,
    profile: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Trains, evaluates and reports; goes on where a run in `workdir` stopped.

    Args:
      config: see README.md, "Configs".
      workdir: gets config.json, tokenizer/, checkpoints/, log.jsonl, tensorboard/, parameters.txt,
        predictions/, report.json, report.md and samples.png.
      profile: (start, stop) of the steps, counted from 0, that leave a trace in workdir/profile,
        which TensorBoard and xprof read.

    Returns:
      what report.json holds.

    Raises:
      UserError: bad config, data or directory; a run of another config; a loss that is not finite.
      Preempted: SIGTERM came; the state is saved.
      PeerLost: another process of the run is gone.
    """
    try:
        with (
            distributed.joined(config=config_lib.digest(config)),
            distributed.Preemption() as preemption,
            contextlib.ExitStack() as closing,
        ):
            return _train(config, Path(workdir), preemption, profile, closing)
    except OSError as error:
        raise UserError(f"{error.filename or workdir}: {error.strerror or error}") from error


def _train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    preemption: distributed.Preemption,
    profile: tuple[int, int] | None,
    closing: contextlib.ExitStack,
) -> dict[str, Any]:
    #### Machine.
    config_lib.check_sections(config)
    mesh = config_lib.construct(sharding.make_mesh, config.mesh, where="mesh")
    is_writer = jax.process_index() == 0

    #### Run directory.
    open_run(workdir, config)
    distributed.check_shared(workdir)
    finished = distributed.from_first(report.read(workdir))
    if finished and finished["steps"] >= config.steps:
        return finished

    #### Data.
    data = config.data.to_dict()
    # What a source looks up in its files, it stores: hosts that share them need it once.
    source = distributed.first_host_first(lambda: build_data(data, config.seed))
    tokenizer = make_tokenizer(config, workdir, source)
    chain = source.compose if isinstance(source, Mixture) else compose
    transform = chain(data.pop("transforms", ()), tokenizer=tokenizer)
    reading = {key: data.pop(key) for key in ("workers", "max_bad_share") if key in data}
    rows = sharding.host_rows(mesh, config.data.batch_size)
    train_batches = config_lib.construct(
        TrainBatches,
        data,
        where="data",
        source=source,
        transform=transform,
        seed=config.seed,
        rows=rows,
    )
    if len(train_batches) < config.steps:
        raise UserError(
            f"data.mixture is used up after {len(train_batches)} batches, steps is {config.steps}: "
            "lower steps, or raise its members' epochs"
        )

    #### Model, objective, optimizer, step.
    teacher = load_teacher(config, mesh)
    training = build_step(config, mesh, teacher_model=teacher and teacher.model)
    model, objective = training.model, training.objective
    check_vocabulary(model, tokenizer)
    if teacher:
        check_teacher(teacher, training, tokenizer)
    root_rng = jax.random.key(config.seed, impl="threefry2x32")

    #### Restore, or initialise.
    checkpoint_section = config.checkpoint.to_dict()
    save_every = checkpoint_section.pop("every_steps")
    checkpoints = config_lib.construct(
        Checkpoints, checkpoint_section, where="checkpoint", workdir=workdir
    )
    closing.callback(checkpoints.close)
    warning = checkpoints.check_space(training.state)
    fingerprint = train_batches.fingerprint()
    if teacher:  # Not saved with the run: its path says what it is, its bits that it still is.
        fingerprint["teacher"] = content_hash(teacher.params)
    start, seconds = distributed.from_first(checkpoints.latest()) or 0, 0.0
    with jax.set_mesh(mesh):
        if start:
            meta = checkpoints.meta(start)
            check_fingerprint(meta["data"], fingerprint)
            seconds = meta["seconds"]
            state = checkpoints.restore(start, training.state)
        else:
            state = training.init(root_rng)
            state, fresh = warm_start.apply(config.init, state, functools.partial(_source, mesh))

    #### Evaluators and log.
    evaluators = build_evaluators(
        config.eval.evaluators.to_dict(),
        model=model,
        objective=objective,
        tokenizer=tokenizer,
        preprocess=config.preprocess,
        mesh=mesh,
    )
    about = {
        "model": str(workdir),
        "step": config.steps,
        **report.provenance(config_lib.to_dict(config.eval.evaluators)),
    }
    picture, texts = report.make_picture(config), report.make_texts(config)
    log_section = config.log.to_dict()
    log_every = log_section.pop("every_steps")
    meter = Meter(
        lambda: step_flops(
            config, teacher_model=teacher and teacher.model, teacher=teacher and teacher.params
        )
    )
    log = config_lib.construct(
        Log,
        log_section,
        where="log",
        workdir=workdir,
        steps=config.steps,
        start=start,
        batch_size=config.data.batch_size,
        meter=meter,
        is_writer=is_writer,
    )
    closing.callback(log.close)
    if is_writer:
        table = parameter_table(training.state, training.optimizer.table, mesh)
        (workdir / "parameters.txt").write_text(table)
    log.say(f"{paths.count(training.shapes):,} parameters; {workdir}/parameters.txt lists them")
    log.say(meter.describe())
    if warning:
        log.say(warning)
    if start:
        log.say(f"resuming at step {start}")
    elif config.init:
        log.say(f"{len(fresh)} parameters keep fresh values: {', '.join(fresh) or 'none'}")

    trace = Trace(profile, workdir / "profile", start, config.steps)
    closing.callback(trace.close)

    #### Loop.
    batches = train_batches.iterate(start, **reading)
    closing.callback(batches.close)
    pending: list[dict[str, jax.Array]] = []
    metrics: dict[str, float] = {}
    teacher_params = teacher and teacher.params
    waited, began = 0.0, time.perf_counter()

    def save(done, state, metrics=None):
        elapsed = seconds + time.perf_counter() - began
        checkpoints.save(done, state, fingerprint, seconds=elapsed, metrics=metrics)

    with jax.set_mesh(mesh):
        for step in range(start, config.steps):
            before = time.perf_counter()
            batch = sharding.put_batch(next(batches), mesh, config.data.batch_size)
            waited += time.perf_counter() - before
            trace.before(step)
            with jax.transfer_guard("disallow"):
                state, step_metrics = training.step(state, batch, teacher_params)
            pending.append(step_metrics)
            # At most two steps ahead of the device: enough to keep it busy, and bounds the memory
            # that queued batches take.
            jax.block_until_ready(pending[-2:][0])

            done = step + 1
            trace.after(done, state)
            is_last = done == config.steps
            is_preempted = preemption.reached(done)
            is_save = is_last or is_preempted or done % save_every == 0
            # A preempted run has seconds left, for saving.
            is_eval = not is_preempted and (is_last or done % config.eval.every_steps == 0)
            if done % log_every == 0 or is_save or is_eval:
                values = finite_means(pending, step + 1 - len(pending), checkpoints)
                log.train(done, {**values, "input_wait_seconds": waited / len(pending)})
                pending, waited = [], 0.0
            if is_save and not checkpoints.best_metric:  # An evaluation may outlast a notice.
                save(done, state)
            if is_eval:
                folder = workdir / "predictions" if is_last else None
                metrics = evaluate(evaluators, state.eval_params(), folder, about)
                log.evaluation(done, metrics)
            if is_save and checkpoints.best_metric:
                save(done, state, metrics if is_eval else None)
            if is_preempted:
                checkpoints.wait()
                raise Preempted(
                    f"the machine is taken away: step {done} is saved in {workdir}, the same "
                    "command goes on from there"
                )

    #### Report.
    seconds += time.perf_counter() - began
    with jax.set_mesh(mesh):
        if not metrics:  # Nothing was left to train.
            metrics = evaluate(evaluators, state.eval_params(), workdir / "predictions", about)
        checkpoints.wait()
        pretrained = Pretrained(
            model,
            state.eval_params(),
            Processor.of_run(config, tokenizer),
            mesh,
            config.model.name,
            config,
        )
        return report.write(
            workdir,
            pretrained,
            picture=picture,
            texts=texts,
            metrics=metrics,
            steps=config.steps,
            seconds=seconds,
            samples=config.steps * config.data.batch_size,
            bad_records=batches.examples,
        )


def open_run(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Makes the run directory and records the config, or checks it against the recorded one.

    A start that failed before its first checkpoint binds nobody: the next one may differ.
    """
    record = workdir / "config.json"
    new = config_lib.to_dict(config)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        old = json.loads(record.read_text()) if record.exists() else new
        differing = config_lib.differing_keys(old, new)
        if differing and any(p.name.isdigit() for p in workdir.glob("checkpoints/*")):
            raise UserError(
                f"{workdir} holds a run of another config; {', '.join(differing)} differ: take "
                "another --workdir, or give the run its own values"
            )
        if jax.process_index() == 0:
            if differing:
                shutil.rmtree(workdir / "tokenizer", ignore_errors=True)
            write_json(record, new)
    except OSError as error:
        raise UserError(f"workdir {workdir}: cannot be written: {error.strerror}") from None


def build_data(section: dict[str, Any], seed: int) -> Source | Mixture:
    """Takes `source` or `mixture` out of a config's `data` section and opens it."""
    found = [key for key in ("source", "mixture") if section.get(key)]
    source, mixture = section.pop("source", None), section.pop("mixture", None)
    if len(found) != 1:
        raise UserError(f"data: give source or mixture, not {' and '.join(found) or 'none'}")
    if source:
        return build_source(source)
    given = {"seed": seed, "batch_size": section["batch_size"]}
    return config_lib.construct(Mixture, mixture, where="data.mixture", **given)


def make_tokenizer(config: ml_collections.ConfigDict, workdir: Path, source: Any) -> Any:
    """The run's tokenizer: loaded where it is stored, else made by the first host; None without."""
    if not config.tokenizer:
        return None
    section, folder = config.tokenizer.to_dict(), workdir / "tokenizer"

    def texts():
        keys = section.get("train_on", ())
        count = min(len(source), section.get("train_examples", len(source)))
        # Of a mixture, which is its members one after the other, some of each.
        spaced = isinstance(source, Mixture)
        for number in range(count):
            try:
                example = source[number * len(source) // count if spaced else number]
            except BadRecord:
                continue  # Which the training replaces and counts.
            for key in keys:
                try:
                    value = entry(example, key)
                except KeyError:
                    raise UserError(
                        f"tokenizer.train_on: no {key!r} in {sorted(example)}"
                    ) from None
                yield from [value] if isinstance(value, str) else value

    return distributed.first_host_first(lambda: build_tokenizer(section, folder, texts()))


def _source(mesh: jax.sharding.Mesh, path: str) -> warm_start.Source:
    m = load(path, mesh=mesh)
    return warm_start.Source(m.params, m.momentum)


def load_teacher(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> Pretrained | None:
    """The fixed model that the objective follows, in compute dtype; None without."""
    path = config.objective.get("teacher")
    return load(path, mesh=mesh, dtype=config.compute.dtype) if path else None


def check_teacher(teacher: Pretrained, training: Training, tokenizer: Any) -> None:
    """It is shown the student's batches, so it has to read them as the student does."""
    shown = training.objective.shown
    theirs, ours = (
        {key: model.dummy_batch(1)[key].shape[1:] for key in shown}
        for model in (teacher.model, training.model)
    )
    if theirs != ours:
        raise UserError(
            f"objective.teacher takes {theirs}, the model {ours}: give the model its teacher's "
            "image size and text length"
        )
    probe = ["Two red 7s, 0 1 2 3 4 5 6 8 9."]
    ids = [t and t(probe)[0].tolist() for t in (teacher.processor.tokenizer, tokenizer)]
    if "text" in shown and ids[0] != ids[1]:
        raise UserError(
            "objective.teacher has another tokenizer than the run: give the run its teacher's"
        )


def check_vocabulary(model: Any, tokenizer: Any) -> None:
    """Ids beyond the table would read its last row without a word."""
    if tokenizer is not None and tokenizer.vocab_size > model.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} entries, the model {model.vocab_size}: "
            "raise its vocab_size, or lower tokenizer.vocab_size"
        )


def check_fingerprint(old: dict, new: dict) -> None:
    """A run resumes on the data it was started on, or not at all."""
    differing = [k for k in sorted(old | new) if old.get(k) != json.loads(json.dumps(new.get(k)))]
    if differing:
        key = differing[0]
        raise UserError(
            f"the run's data has changed: {key} was {old.get(key)!r}, is {new.get(key)!r}; restore "
            "it, or start another --workdir"
        )


def finite_means(
    pending: list[dict], first_step: int, checkpoints: Checkpoints
) -> dict[str, float]:
    """Means of the metrics since the last log.

    Raises:
      UserError: one of them is not finite; names the step, the metric and the last checkpoint.
    """
    values = jax.device_get(pending)
    for offset, step_values in enumerate(values):
        for name, value in step_values.items():
            if not np.isfinite(value):
                checkpoints.wait()
                last = checkpoints.latest()
                place = "there is no checkpoint yet" if last is None else f"step {last} is saved"
                raise UserError(
                    f"{name} is {value} at step {first_step + offset + 1}; {place}: lower "
                    "optim.lr, or set optim.clip_norm"
                )
    return {name: float(np.mean([v[name] for v in values])) for name in values[0]}
