# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of torch.save, written by torch and read by us, and the other way round."""

import argparse

import numpy as np
import pytest
import torch

from jvlm.convert import torch_file
from jvlm.convert.files import Pickled

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("is_zip", [True, False])
def test_we_read_what_torch_writes(is_zip, tmp_path):
    whole = torch.randn(6, 4)
    state = {
        "whole": whole,
        "view": whole[2:],
        "turned": whole.T,
        "half": whole.half(),
        "bfloat16": whole.bfloat16(),
        "counts": torch.arange(3),
        "scalar": torch.tensor(2.0),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(whole),
    }
    others = {"args": argparse.Namespace(x=1), "dtype": torch.float32, "array": np.arange(3)}
    optimizer = torch.optim.SGD([torch.nn.Parameter(whole)], lr=0.1).state_dict()
    content = {"model": state, "optimizer": optimizer, **others}
    path = tmp_path / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    tensors = Pickled([path])
    assert tensors.shapes == {key: tuple(value.shape) for key, value in state.items()}
    for key, value in state.items():
        want = value.detach().float().numpy()
        np.testing.assert_array_equal(tensors.read(key).astype(np.float32), want)
        for axis in range(2 if value.ndim == 2 and len(value) else 0):
            part = tensors.read(key, (1, 2), axis).astype(np.float32)
            np.testing.assert_array_equal(part, np.split(want, 2, axis)[1])


@pytest.mark.parametrize("options", [{}, {"mmap": True}, {"weights_only": True}])
def test_torch_reads_what_we_write(options, tmp_path):
    arrays = {"a": np.ones((3, 4), np.float32), "n": np.array([[1, -2]]), "s": np.float32(3)}
    tensors = ((k, v.shape, v.dtype, lambda v=v: v) for k, v in arrays.items())
    torch_file.write(tmp_path / "x.pth", tensors, {"b": "a"})
    state = torch.load(tmp_path / "x.pth", **options)["model"]
    assert state["a"].data_ptr() == state["b"].data_ptr()
    for key, value in (arrays | {"b": arrays["a"]}).items():
        assert state[key].numpy().dtype == value.dtype
        np.testing.assert_array_equal(state[key].numpy(), value)
