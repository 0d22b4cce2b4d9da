# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Packaging. `pip install -e .[test]` for work on the code, `.[gpu]` or `.[tpu]` on the machine."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.*)"', (ROOT / "jvlm/__init__.py").read_text())[1]

# Python 3.11 ends at jax 0.10, and flax up to 0.12.8 breaks with jax from 0.11.1 on: two pairs.
OLD, NEW = 'python_version < "3.12"', 'python_version >= "3.12"'
JAX = [f"jax>=0.10.2,<0.11; {OLD}", f"jax>=0.11.1; {NEW}"]

WITH_JSON = ["jvlm.data", "jvlm.data.instructions", "jvlm.evaluators"]
SWEEP = ["matplotlib", "optuna>=5,<6"]

# The wheel carries the configs, so that --config=clip/digits works without a checkout.
CONFIGS = [p.relative_to(ROOT) for p in [ROOT / "configs", *ROOT.glob("configs/*/")]]
CONFIGS = [p for p in CONFIGS if p.name != "__pycache__"]

setuptools.setup(
    name="jvlm",
    version=VERSION,
    description="The vision-language family in JAX: trained, evaluated, imported, exported, run.",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *setuptools.find_packages(include=["jvlm", "jvlm.*"]),
        *(f"jvlm.{'.'.join(p.parts)}" for p in CONFIGS),
    ],
    package_data={part: ["*.json"] for part in WITH_JSON},
    package_dir={f"jvlm.{'.'.join(p.parts)}": str(p) for p in CONFIGS},
    entry_points={"console_scripts": ["jvlm = jvlm.cli:main"]},
    install_requires=[
        *JAX,
        f"flax==0.12.8; {OLD}",
        f"flax>=0.12.9; {NEW}",
        "absl-py",
        "array_record>=0.8; sys_platform == 'linux'",
        "chex",
        "cykooz.resizer>=4; platform_machine != 'aarch64'",  # No build of Linux on ARM.
        "ftfy>=6.3",
        "grain>=0.2.18",
        "importlib_resources",  # Imported by tensorflow-datasets, which does not declare it.
        "ml_collections>=1.1",
        "numpy>=2",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12",
        "pillow>=11",
        "protobuf",  # Imported by sentencepiece, which does not declare it.
        "pyarrow>=18",
        "regex",
        "safetensors>=0.5",
        "scikit-learn",
        "scipy",
        "sentencepiece>=0.2.1",
        "simplejpeg>=1.8",
        "tensorboardX",
        "tensorflow-datasets>=4.9.10",
        "tokenizers>=0.21",
        "tqdm",
    ],
    extras_require={
        "gpu": [f"jax[cuda12]>=0.10.2,<0.11; {OLD}", f"jax[cuda13]>=0.11.1; {NEW}"],
        "tpu": [f"jax[tpu]>=0.10.2,<0.11; {OLD}", f"jax[tpu]>=0.11.1; {NEW}"],
        # The compiler that fits this jax; no TPU is needed.
        "plan": [f"jax[tpu]>=0.10.2,<0.11; {OLD}", f"jax[tpu]>=0.11.1; {NEW}"],
        "torch": ["torch>=2.4"],
        # METEOR and SPICE of captions; they run Java.
        "coco": ["pycocoevalcap>=1.2"],
        "sweep": SWEEP,
        "test": [*SWEEP, "nbclient", "ipykernel", "pytest>=8", "pytest-xdist", "ruff==0.17.5"],
        "parity": ["torch==2.13.0", "transformers>=5", "peft>=0.18"],
    },
)
