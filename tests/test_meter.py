# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""How well devices are used, and the trace of a few steps."""

import types

import pytest

import jvlm
from jvlm.errors import UserError
from jvlm.meter import Meter
from jvlm.trace import Trace, parse_span


def device(kind, **stats):
    return types.SimpleNamespace(device_kind=kind, process_index=0, memory_stats=lambda: stats)


def test_use_of_known_chips():
    devices = [
        device("TPU v5 lite", bytes_in_use=2**30 * size, peak_bytes_in_use=2**33) for size in (1, 3)
    ]
    meter = Meter(lambda: 197e12, devices)
    assert meter.read(1.0) == {
        "mfu": 0.5,
        "device_memory_gib": 3.0,
        "device_memory_peak_gib": 8.0,
    }
    line = meter.describe()
    assert "2 x TPU v5 lite: 197.00 TFLOP a step" in line and "MFU of 197 TFLOP/s" in line


def test_unknown_chips_say_so():
    meter = Meter(pytest.fail, [device("abacus")])
    assert meter.read(1.0) == {}
    assert "no MFU, jvlm/chips.py does not know the peak of 'abacus'" in meter.describe()


def test_profile(config, tmp_path):
    jvlm.train(config, tmp_path, (3, 4))
    traces = [p.name for p in (tmp_path / "profile").rglob("*") if p.is_file()]
    assert any(name.endswith(".xplane.pb") for name in traces)
    with pytest.raises(UserError, match="the run does steps 0 to 4 now"):
        Trace((3, 5), tmp_path, 0, 4)


@pytest.mark.parametrize("text", ["3", "3:", "5:3", "a:b", "3:3"])
def test_spans(text):
    assert parse_span("10:13") == (10, 13)
    with pytest.raises(UserError, match="such as --profile=10:13"):
        parse_span(text)
