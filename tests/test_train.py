# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The loop: learning, resuming bit for bit, stopping with one clear line."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import jvlm
from jvlm import checkpoint, paths, pretrained, sharding
from jvlm import config as jvlm_config
from jvlm import step as step_lib
from jvlm.data.builders import digit_scenes
from jvlm.errors import Preempted, UserError
from jvlm.logs import Log
from jvlm.state import TrainState

OVERRIDES = ["seed=3", "optim.schedule=constant"]
COMMAND = [sys.executable, "-m", "jvlm.cli", "train", "--config=configs/clip/digits.py:test"]
COMMAND += [f"--config.{override}" for override in OVERRIDES]


def final_params(workdir):
    return paths.flatten(pretrained.load(workdir, step="latest").params)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for path in one:
        np.testing.assert_array_equal(one[path], other[path], err_msg=path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_dir):
    """A run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("finished")
    config = jvlm.load_config("configs/clip/digits.py:test", OVERRIDES)
    return workdir, config, jvlm.train(config, workdir)


def test_a_run_leaves_everything(finished):
    workdir, config, report = finished
    assert report["steps"] == 4 and report["samples_per_second"] > 0
    wanted = {"zero_shot/top1", "retrieval/i2t_r1", "retrieval/t2i_r1", "val/loss"}
    assert wanted <= report["metrics"].keys()
    assert json.loads((workdir / "report.json").read_text()) == report
    assert report["config"]["seed"] == 3 and "jax" in report["versions"]
    assert "zero_shot/top1" in (workdir / "report.md").read_text()
    assert (workdir / "samples.png").read_bytes()[:4] == b"\x89PNG"
    assert any((workdir / "tensorboard").iterdir())
    lines = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 2, 3, 4]
    assert all(np.isfinite(line["train/loss"]) for line in lines if "train/loss" in line)
    table = (workdir / "parameters.txt").read_text()
    assert "vision/blocks/mlp/up/kernel" in table and "logit_scale" in table


def test_a_finished_run_is_not_run_again(finished):
    workdir, config, report = finished
    began = time.perf_counter()
    assert jvlm.train(config, workdir) == report
    assert time.perf_counter() - began < 2


def test_evaluate_repeats_the_report(finished):
    workdir, _, report = finished
    metrics = jvlm.evaluate(workdir, step="latest")
    for name, value in report["metrics"].items():
        np.testing.assert_allclose(metrics[name], value, atol=1e-5, err_msg=name)


def test_resume_is_bit_exact(finished, config, tmp_path):
    """Two steps, then the rest from the checkpoint: the same parameters as in one go."""
    workdir, _, _ = finished
    config.steps, config.data.workers = 2, 1  # A worker process feeds this part.
    jvlm.train(config, tmp_path)
    config.steps, config.data.workers = 4, 0
    jvlm.train(config, tmp_path)
    assert_same(final_params(tmp_path), final_params(workdir))


def test_kill_and_resume_is_bit_exact(finished, tmp_path):
    """kill -9 in mid-run; the second start ends with the parameters of an undisturbed run."""
    workdir, _, _ = finished
    command = [*COMMAND, f"--workdir={tmp_path}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    deadline = time.time() + 120
    while not (tmp_path / "checkpoints" / "2").exists() and process.poll() is None:
        assert time.time() < deadline, "no checkpoint in two minutes"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "report.json").exists()  # It was in mid-run.
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(final_params(tmp_path), final_params(workdir))


def test_a_killed_run_leaves_no_doubles_in_the_log(tmp_path):
    lines = [f'{{"step": {step}, "train/loss": 1.0}}\n' for step in range(1, 6)]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(lines) + '{"step": 6, "tra')
    Log(tmp_path, steps=8, start=4, batch_size=1, meter=None, tensorboard=False).close()
    assert log.read_text() == "".join(lines[:4])


def test_preemption_of_one_process(finished, config, tmp_path, monkeypatch):
    """SIGTERM: saved after the step, an error of status 75; then on, bit for bit."""
    train_log, signals = Log.train, [signal.SIGTERM]

    def notice(self, step, metrics):
        train_log(self, step, metrics)
        if signals and step == 1:
            os.kill(os.getpid(), signals.pop())

    monkeypatch.setattr(Log, "train", notice)
    config.checkpoint.every_steps = 4
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted, match="step 2 is saved") as caught:
        jvlm.train(config, tmp_path)
    assert caught.value.status == 75 and signal.getsignal(signal.SIGTERM) is handler
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["2"]
    jvlm.train(config, tmp_path)
    assert_same(final_params(tmp_path), final_params(finished[0]))


def test_the_step_is_compiled_once(config, tmp_path, monkeypatch):
    traces, original = [], step_lib.micro_batches
    monkeypatch.setattr(
        step_lib, "micro_batches", lambda *args: traces.append(1) or original(*args)
    )
    jvlm.train(config, tmp_path)
    assert len(traces) == 1


def test_frozen_parts_average_and_accumulation(config, tmp_path):
    """Frozen leaves do not move and are written once; the average is what is evaluated."""
    config.trainable = (("text/.*", False), ("vision/blocks/.*[0:1]", False), (".*", True))
    config.ema.decay = 0.75
    config.optim.accumulate = 2
    config.checkpoint.every_steps, config.checkpoint.keep = 1, 2
    jvlm.train(config, tmp_path)
    assert len(list((tmp_path / "frozen").iterdir())) == 1
    steps = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    assert steps[-2:] == [3, 4]
    first, last = (paths.flatten(pretrained.load(tmp_path, step=s).params) for s in (3, 4))
    # e4 = 0.75 e3 + 0.25 p4, where p4 is what the optimizer holds.
    config.ema.decay = 0.0
    (tmp_path / "config.json").write_text(json.dumps(jvlm_config.to_dict(config)))
    raw = paths.flatten(pretrained.load(tmp_path, step=4).params)
    proj = "vision_proj/kernel"
    want = 0.75 * first[proj] + 0.25 * raw[proj]
    np.testing.assert_allclose(last[proj], want, rtol=1e-5, atol=1e-7)
    assert not np.allclose(last[proj], raw[proj], rtol=1e-4)
    kernel = "vision/blocks/mlp/up/kernel"
    np.testing.assert_array_equal(first[kernel][0], last[kernel][0])
    assert not np.array_equal(first[kernel][1], last[kernel][1])
    text = "text/blocks/mlp/up/kernel"
    np.testing.assert_array_equal(first[text], last[text])
    table = (tmp_path / "parameters.txt").read_text()
    assert "per layer no,yes" in table


def test_warm_start_from_a_run(finished, config, tmp_path):
    workdir, _, _ = finished
    config.init = (("vision/(.*)", str(workdir), r"vision/\1", ()),)
    config.trainable = (("vision/.*", False), (".*", True))
    jvlm.train(config, tmp_path)
    want, got = final_params(workdir), final_params(tmp_path)
    assert_same(*({p: v for p, v in t.items() if p.startswith("vision/")} for t in (want, got)))
    assert not np.array_equal(want["vision_proj/kernel"], got["vision_proj/kernel"])


def test_distillation_resumes_bit_exactly_with_its_teacher(finished, config, tmp_path):
    workdir, _, _ = finished
    config.objective.update(dict(name="distillation", teacher=str(workdir), distill="logits"))
    config.trainable = (("text/.*", False), (".*", True))
    jvlm.train(config, tmp_path / "whole")
    lines = [json.loads(x) for x in (tmp_path / "whole/log.jsonl").read_text().splitlines()]
    assert all(x["train/distillation"] > 0 for x in lines if "train/loss" in x)
    config.steps = 2
    jvlm.train(config, tmp_path / "parts")
    config.steps = 4
    jvlm.train(config, tmp_path / "parts")
    assert_same(final_params(tmp_path / "parts"), final_params(tmp_path / "whole"))
    # A teacher that is not the same any more.
    other = tmp_path / "teacher"
    shutil.copytree(tmp_path / "whole", other)
    shutil.copytree(tmp_path / "parts", tmp_path / "more")
    record = tmp_path / "more/config.json"
    record.write_text(record.read_text().replace(str(workdir), str(other)))
    config.objective.teacher, config.steps = str(other), 5
    with pytest.raises(UserError, match="teacher was '.*', is '"):
        jvlm.train(config, tmp_path / "more")
    config.model.text.max_len = config.tokenizer.max_len = 12
    with pytest.raises(UserError, match="give the model its teacher's image size"):
        jvlm.train(config, tmp_path / "short")


def test_another_mesh_goes_on(finished, config, tmp_path):
    """Started on 8x1x1, finished on 2x2x2: the same to rounding."""
    workdir, _, _ = finished
    config.steps = 2
    jvlm.train(config, tmp_path)
    config.steps = 4
    config.mesh.update(dict(data=2, fsdp=2, tensor=2))
    jvlm.train(config, tmp_path)
    got, want = final_params(tmp_path), final_params(workdir)
    for path in want:
        np.testing.assert_allclose(got[path], want[path], atol=2e-5, err_msg=path)


def test_not_finite_names_step_and_checkpoint(config, tmp_path):
    config.optim.lr, config.optim.clip_norm = 1e30, None
    with pytest.raises(UserError, match=r"(loss|grad_norm) is (nan|inf) at step \d"):
        jvlm.train(config, tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.mesh.update(dict(data=3)), "does not cover 8 device"),
        (lambda c: c.data.update(dict(batch_size=12)), "not a multiple of 8 devices"),
        (lambda c: c.optim.update(dict(accumulate=4)), "x 4 micro-batches"),
        (lambda c: c.eval.evaluators.val.data.update(dict(batch_size=9)), "batch_size 9 is not"),
        (lambda c: c.eval.update(dict(pictures=1)), "Did you mean 'picture'"),
        (lambda c: c.eval.update(dict(picture=dict(texts="x"))), "eval.picture: missing source"),
        (lambda c: c.tokenizer.update(dict(train_on=("caption",))), "train_on: no 'caption'"),
        (lambda c: c.model.vision.update(dict(activation="gelo")), "Did you mean 'gelu"),
        (lambda c: c.model.vision.update(dict(num_heads=3)), "no multiple of num_heads 3"),
        (lambda c: c.compute.update(dict(attention="flash")), "attention 'flash' is unknown"),
        (lambda c: c.model.text.update(dict(vocab_size=8)), "raise its vocab_size"),
        (lambda c: c.data.source.update(dict(name="digit_scenes/full")), "jvlm data prepare"),
        (lambda c: c.optim.update(dict(name="adam")), "Did you mean 'adamw'"),
        (lambda c: c.optim.update(dict(warmup_steps=10)), "exceeds steps"),
        (lambda c: c.compute.update(dict(remat="fulll")), "Did you mean 'full'"),
        (lambda c: c.checkpoint.update(dict(every_steps=0)), "checkpoint.every_steps is 0"),
    ],
)
def test_bad_configs_are_one_line(config, tmp_path, change, message):
    change(config)
    with pytest.raises(UserError, match=message) as error:
        jvlm.train(config, tmp_path)
    assert "\n" not in str(error.value)


def test_run_of_another_config_is_refused(finished, config):
    workdir, _, _ = finished
    config.optim.lr, config.data.batch_size = 1.0, 32
    with pytest.raises(UserError, match=r"data.batch_size, .*optim.lr.* differ"):
        jvlm.train(config, workdir)
    config = copy.deepcopy(finished[1])
    config.log.every_steps, config.data.workers, config.compute.remat = 2, 1, "full"
    jvlm.train(config, workdir)  # These may change.


def test_unwritable_workdir(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        jvlm.train(config, tmp_path / "file" / "run")
    with pytest.raises(UserError, match="cannot be written"):
        jvlm.train(config, "/proc/jvlm")


FULL_DISK = """
import resource, signal, sys
from jvlm import checkpoint, cli

def fill(*args, **kwargs):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    return save(*args, **kwargs)

if sys.argv.pop(1) == "checkpoint":
    save, checkpoint.Checkpoints.save = checkpoint.Checkpoints.save, fill
else:
    save = lambda: None
    fill()
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize("moment", ["checkpoint", "start"])
def test_disk_that_fills_up(tmp_path, moment):
    """What cannot be written ends the run with the reason, in one line."""
    command = [sys.executable, "-c", FULL_DISK, moment, *COMMAND[3:], f"--workdir={tmp_path}"]
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("jvlm: ") and "File too large" in last
    assert ("cannot write a checkpoint" in last) == (moment == "checkpoint")
    if moment == "start":  # A background thread of Orbax prints a traceback of its own.
        assert "Traceback" not in done.stderr


def test_a_disk_without_room_is_said_at_the_start(config, tmp_path, monkeypatch, capsys):
    usage = lambda free: lambda path: shutil._ntuple_diskusage(1, 1, free)
    monkeypatch.setattr(shutil, "disk_usage", usage(2**19))
    with pytest.raises(UserError, match=r"has 0.0 GiB free, a checkpoint takes .*: make room"):
        jvlm.train(config, tmp_path / "none")
    monkeypatch.setattr(shutil, "disk_usage", usage(2**20))
    jvlm.train(config, tmp_path / "one")
    assert "and 2 of them are kept" in capsys.readouterr().out


@pytest.mark.parametrize("mode, best", [("max", 2), ("min", 3)])
def test_the_best_checkpoint_survives_a_restart(tmp_path, mode, best):
    scores = {1: 0.5, 2: 0.9, 3: 0.1, 4: 0.4, 5: 0.3}
    params = {"kernel": jax.numpy.ones(3)}
    state = TrainState(0, params, {}, None, None, {}, (), jax.random.key(0))
    for steps in ((1, 2, 3), (4, 5)):
        kept = checkpoint.Checkpoints(tmp_path, keep=1, best="score", best_mode=mode)
        for step in steps:
            kept.save(step, state, {}, metrics={"score": scores[step]})
        kept.close()
    again = checkpoint.Checkpoints(tmp_path, keep=1, best="score", best_mode=mode, read_only=True)
    assert again.steps() == [best, 5] and again.best() == best
    with pytest.raises(UserError, match="Did you mean 'score'"):
        checkpoint.Checkpoints(tmp_path, best="scor").save(6, state, {}, metrics={"score": 1.0})


def test_corrupt_image_is_replaced_and_reported(config, tmp_path, monkeypatch):
    from jvlm.data import images

    decode = images.decode
    pixel = digit_scenes.compose("tiny", "train", 3)["image"]

    def damaged(data):
        image = decode(data)
        if np.array_equal(image, pixel):
            raise images.BadRecord("cut off")
        return image

    monkeypatch.setattr(images, "decode", damaged)
    config.steps = 8  # A whole epoch.
    report = jvlm.train(config, tmp_path)
    assert report["bad_records"] == ["record 3: cut off"]
    assert "record 3" in (tmp_path / "report.md").read_text()


def test_half_written_checkpoint_is_not_restored(finished, config, tmp_path):
    """What a killed save leaves behind is not taken for a checkpoint."""
    config.steps = 2
    jvlm.train(config, tmp_path)
    half = tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp"
    half.mkdir()
    (half / "junk").write_text("x")
    assert checkpoint.Checkpoints(tmp_path, read_only=True).steps() == [2]


def test_content_hash_knows_every_bit(rng):
    tree = {"a": jax.numpy.asarray(rng.normal(size=(4, 8)), "float32")}
    digest = checkpoint.content_hash(tree)
    assert digest == checkpoint.content_hash({"a": tree["a"] + 0})
    assert digest != checkpoint.content_hash({"b": tree["a"]})
    assert digest != checkpoint.content_hash({"a": tree["a"].at[1, 2].add(1e-6)})
    assert digest != checkpoint.content_hash({"a": tree["a"][::-1]})
    place = jax.sharding.NamedSharding(sharding.make_mesh(2, 4, 1), jax.P("data", "fsdp"))
    assert digest == checkpoint.content_hash(jax.device_put(tree, place))


def test_a_failed_start_binds_nobody(config, tmp_path):
    config.data.batch_size = 12
    with pytest.raises(UserError, match="not a multiple of 8 devices"):
        jvlm.train(config, tmp_path)
    config.data.batch_size, config.tokenizer.max_len = 8, 17
    config.steps, config.eval.evaluators, config.checkpoint.best = 1, {}, None
    assert jvlm.train(config, tmp_path)["steps"] == 1
    assert pretrained.load(tmp_path).processor.tokenizer.max_len == 17
