# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reference packages that import torchvision, without torchvision.

They are installed with `pip install --no-deps`; nothing that they use torchvision for is called.
"""

import contextlib
import importlib
import importlib.machinery
import importlib.util
import sys
import types
import warnings

import transformers


class _Anything(type):
    """Metaclass: every attribute of such a class is another such class."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Stub(types.ModuleType):
    """A module in which every name is an empty class."""

    __path__ = ()
    __getattr__ = _Anything.__getattr__


@contextlib.contextmanager
def _without_torchvision():
    """Stands in for torchvision while something that imports it is imported."""
    # transformers looks for torchvision once: it must not find the stub.
    transformers.utils.is_torchvision_available()
    names = ["torchvision"]
    names += [
        f"torchvision.{n}" for n in ("transforms", "transforms.functional", "ops", "ops.misc")
    ]
    missing = importlib.util.find_spec("torchvision") is None
    if missing:
        for name in names:
            sys.modules[name] = _Stub(name)
            sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, sys.modules[name])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if missing:
            for name in names:
                del sys.modules[name]


def import_open_clip():
    """The package `open_clip` (PyPI: open_clip_torch)."""
    with _without_torchvision():
        return importlib.import_module("open_clip")


def import_cn_clip():
    """The package `cn_clip.clip` (PyPI: cn_clip)."""
    with _without_torchvision():
        return importlib.import_module("cn_clip.clip")


def import_openai_clip():
    """The module `clip.model` (PyPI: clip-anytorch), which needs nothing but torch.

    Its package is not imported: that would ask for pkg_resources.
    """
    package = importlib.util.find_spec("clip")
    if package is None:
        raise ModuleNotFoundError("pip install --no-deps clip-anytorch")
    path = f"{package.submodule_search_locations[0]}/model.py"
    spec = importlib.util.spec_from_file_location("openai_clip_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
