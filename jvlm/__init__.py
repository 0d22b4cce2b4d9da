# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""jvlm: the vision-language family in JAX, trained, evaluated, imported, exported and run.

model = jvlm.load("runs/digits")             # a run or, later, a published checkpoint
model.embed_images(["photo.jpg"])            # float32[1, E], unit norm
jvlm.train(config, "runs/mine")
"""

import importlib
import sys
import types

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


class _Package(types.ModuleType):
    """Keeps `jvlm.train` the function: importing the file jvlm/train.py would rebind the name."""

    def __setattr__(self, name, value):
        if not (name in _EXPORTS and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module 'jvlm' has no attribute {name!r}")
    importlib.import_module(_EXPORTS[name])
    value = getattr(sys.modules[_EXPORTS[name]], _NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *_EXPORTS])
