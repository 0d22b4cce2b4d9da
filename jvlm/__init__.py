# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""jvlm: the vision-language family in JAX, trained, evaluated, imported, exported and run.

model = jvlm.load("runs/digits")             # a run or, later, a published checkpoint
model.embed_images(["photo.jpg"])            # float32[1, E], unit norm
jvlm.train(config, "runs/mine")
"""

__version__ = "0.1.0"

# Public name -> module. Imported on first use: `import jvlm` costs nothing, and the command line
# answers --help without waiting for JAX.
_EXPORTS = {
    "UserError": "jvlm.errors",
    "build": "jvlm.models",
    "evaluate": "jvlm.evaluate",
    "load": "jvlm.pretrained",
    "load_config": "jvlm.config",
    "train": "jvlm.train",
}
_NAMES = {"build": "build_model", "load_config": "load"}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module 'jvlm' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_EXPORTS[name]), _NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *_EXPORTS])
