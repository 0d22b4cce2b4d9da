# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Eight fake devices for the whole suite; nothing is skipped for lack of hardware."""

import importlib.metadata
import os
import pathlib

# Before JAX starts. One thread per device: eight devices' collectives on two cores otherwise starve
# each other, and the rendezvous gives up.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The older way to compile fused operations takes two thirds of the time. Later XLAs have it not.
OLD = importlib.metadata.version("jaxlib").startswith("0.10.")
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        *(("--xla_cpu_use_fusion_emitters=false",) if OLD else ()),
        "--xla_force_host_platform_device_count=8",
        "--xla_cpu_multi_thread_eigen=false",
        # The tests compile far more than they run.
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_collective_call_warn_stuck_timeout_seconds=120",
        "--xla_cpu_collective_call_terminate_timeout_seconds=600",
    )
)
# Compiled programs are shared by workers, subprocesses and the next run of the tests.
CACHE = pathlib.Path(__file__).parent.parent / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Here too, since TFDS looks once, when it is imported.
os.environ["TFDS_DATA_DIR"] = str(CACHE.parent / "tfds")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(scope="session", autouse=True)
def data_dir():
    """The TFDS folder, with digit_scenes/tiny in it; subprocesses find it too."""
    from jvlm.data.builders import digit_scenes

    folder = pathlib.Path(os.environ["TFDS_DATA_DIR"])
    digit_scenes.prepare("tiny", folder)
    return folder


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def config():
    """The quickstart, shrunk and without its evaluators: what most tests of the loop train."""
    from jvlm import config as config_lib

    c = config_lib.load("configs/clip/digits.py:test", ["seed=3", "optim.schedule=constant"])
    c.eval.evaluators = {"val": c.eval.evaluators.val}
    del c.eval.picture
    c.checkpoint.update(dict(best="val/loss", best_mode="min"))
    return c


def pytest_ignore_collect(collection_path, config):
    """The comparisons with PyTorch import it: they are not even read where they do not run."""
    if config.option.markexpr == "not parity" and collection_path.parent.name == "parity":
        return True
    return None


@pytest.fixture
def colours():
    """What `jvlm.load` gives, of a model that sees an image's mean colour and knows three words."""
    import types

    import flax.linen as nn
    import jax.numpy as jnp

    from jvlm import sharding
    from jvlm.layers import l2_normalize
    from jvlm.pretrained import Processor

    class Colours(nn.Module):
        cfg: str = "colours"

        def setup(self):
            self.gain = self.param("gain", nn.initializers.ones, (3,))

        def encode_image(self, image):
            return l2_normalize(image.mean((1, 2)) * self.gain)

        def encode_text(self, text, text_mask):
            return jax.nn.one_hot(text[:, 0], 3)

        def dummy_batch(self, rows):
            return {"image": jnp.zeros((rows, 4, 4, 3), jnp.uint8)}

    class Words:
        vocab_size, max_len = 3, 1

        def __call__(self, texts):
            ids = np.array([[("red", "green", "blue").index(text)] for text in texts], np.int32)
            return ids, np.ones_like(ids, bool)

    return types.SimpleNamespace(
        model=Colours(),
        params={"gain": jnp.ones(3)},
        processor=Processor((("resize_center_crop", dict(size=4)),), Words()),
        mesh=sharding.make_mesh(8),
    )


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs `jvlm ...` in this process; gives (status, standard output, standard error)."""

    from jvlm import cli

    def exit(status):
        raise SystemExit(status)

    monkeypatch.setattr(cli.options, "end", exit)

    def run(*arguments):
        try:
            cli.main([str(argument) for argument in arguments])
            status = 0
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests that share an expensive fixture go to one worker, so that it is made once."""
    for item in items:
        for fixture in ("finished", "trained"):
            if fixture in item.fixturenames:
                item.add_marker(pytest.mark.xdist_group(fixture))


def pytest_collection_finish(session):
    """CI says how many parity tests there must be, so that none is lost without a word."""
    least = int(os.environ.get("JVLM_MIN_PARITY_TESTS", 0))
    if least and len(session.items) < least:
        raise pytest.UsageError(f"{len(session.items)} parity tests collected, expected {least}")
