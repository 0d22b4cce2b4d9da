# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading compiled programs: one that can be counted by hand, and notations of other compilers."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jvlm import sharding
from jvlm.hlo import Program

DEVICES, ROWS, WIDTH, TRIPS = 8, 16, 32, 5
PIECE = ROWS * WIDTH * 4  # Bytes of a float32[ROWS, WIDTH], each device's share.


@pytest.fixture(scope="module")
def text():
    """A loop of five trips, with one collective of each kind and one matmul per trip."""
    mesh = sharding.make_mesh(data=DEVICES)

    def local(x, w):
        def body(x, _):
            y = x @ w
            y = lax.ppermute(y, "data", [(i, (i + 1) % DEVICES) for i in range(DEVICES)])
            y = lax.all_to_all(y, "data", 0, 0, tiled=True)
            y = lax.psum_scatter(lax.all_gather(y, "data", tiled=True), "data", tiled=True)
            return jnp.tanh(y), y.sum(0)

        x, sums = lax.scan(body, x, None, length=TRIPS)
        return x, lax.psum(sums, "data")

    rows = jax.P("data")
    fn = jax.shard_map(local, mesh=mesh, in_specs=(rows, jax.P()), out_specs=(rows, jax.P()))
    x = jax.ShapeDtypeStruct((DEVICES * ROWS, WIDTH), "float32")
    w = jax.ShapeDtypeStruct((WIDTH, WIDTH), "float32")
    return jax.jit(fn).lower(x, w).compile().as_text()


def test_counts_of_a_program_by_hand(text):
    program = Program(text)
    found = {entry.kind: (entry.count, entry.bytes) for entry in program.collectives()}
    assert found["collective-permute"] == (TRIPS, TRIPS * PIECE)
    assert found["all-to-all"] == (TRIPS, TRIPS * PIECE * 7 / 8)
    assert found["all-gather"] == (TRIPS, TRIPS * PIECE * 7)
    assert found["reduce-scatter"] == (TRIPS, TRIPS * 8 * PIECE * 7 / 8)
    assert found["all-reduce"] == (1, 2 * TRIPS * WIDTH * 4 * 7 / 8)  # After the loop.
    assert program.dot_flops() == TRIPS * 2 * ROWS * WIDTH * WIDTH
    assert program.unknown_loops == 0


def test_trips_without_the_compilers_word(text):
    """libtpu does not say how often a loop runs: its counter and limit do."""
    assert "known_trip_count" in text
    bare = re.sub(r', backend_config=\{"known_trip_count.*', "", text)
    assert Program(bare).collectives() == Program(text).collectives()


def test_a_loop_of_unknown_length_is_said():
    fn = jax.jit(lambda x: lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, x))
    program = Program(fn.lower(jnp.ones((4, 4))).compile().as_text())
    assert program.unknown_loops == 1 and program.dot_flops() == 2 * 4**3


ASYNC = """\
HloModule step, num_partitions=16

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%scattered (p: bf16[16,8]) -> bf16[2,8] {
  %p = bf16[16,8]{1,0} parameter(0)
  ROOT %rs = bf16[2,8]{1,0} reduce-scatter(%p), replica_groups=[2,8]<=[16], to_apply=%add
}

%started (q: f32[4]) -> f32[64] {
  %q = f32[4]{0:T(128)} parameter(0)
  %ag = f32[64]{0} all-gather(%q), replica_groups={}
  ROOT %c = (f32[4]{0}, f32[64]{0}) custom-call(%ag), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.1 (q2: f32[4]) -> f32[64] {
  %q2 = f32[4]{0} parameter(0)
  ROOT %ag2 = f32[64]{0} all-gather(%q2), replica_groups={}
}

%ended (q3: f32[4]) -> f32[64] {
  %q3 = f32[4]{0} parameter(0)
  %ag3 = f32[64]{0} all-gather(%q3), replica_groups={}
  ROOT %d = f32[64]{0} custom-call(%ag3), custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.1 (q4: f32[16]) -> f32[1] {
  %q4 = f32[16]{0} parameter(0)
  %all = f32[16]{0} all-reduce(%q4), replica_groups={}, to_apply=%add
  ROOT %own = f32[1]{0} slice(%all), slice={[0:1]}
}

ENTRY %main (x: bf16[16,8], y: f32[4]) -> f32[64] {
  %x = bf16[16,8]{1,0} parameter(0)
  %y = f32[4]{0} parameter(1)
  %ags = (f32[4]{0}, f32[16]{0}) all-gather-start(%y), replica_groups={{0,1,2,3},{4,5,6,7}}
  %agd = f32[16]{0} all-gather-done(%ags)
  %ars = f32[4]{0} all-reduce-start(%y), replica_groups=mesh['a'=4,'b'=4] {'a','b':(1)2}
  %ard = f32[4]{0} all-reduce-done(%ars)
  %as = ((bf16[16,8]{1,0}), bf16[2,8]{1,0}) async-start(%x), calls=%scattered
  %ad = bf16[2,8]{1,0} async-done(%as), calls=%scattered
  %f1 = (f32[4]{0}, f32[64]{0}, u32[]{:S(2)}) fusion(%y), kind=kCustom, calls=%started
  %f2 = f32[64]{0} fusion(%y), kind=kOutput, calls=%async_collective_fusion.1
  %f4 = f32[1]{0} fusion(%agd), kind=kCustom, calls=%all-reduce-scatter.1
  %t = token[] after-all()
  %s = (f32[4]{0}, u32[], token[]) send(%y, %t), channel_id=5, is_host_transfer=true
  %sd = token[] send-done(%s), channel_id=5, is_host_transfer=true
  ROOT %f3 = f32[64]{0} fusion(%y), kind=kCustom, calls=%ended
}
"""


def test_asynchronous_collectives_count_once():
    found = {entry.kind: entry[1:] for entry in Program(ASYNC).collectives()}
    assert found == {
        "all-gather": (2, 16 * 3 + 16 * 15),  # Groups of four; all sixteen.
        "all-reduce": (1, 2 * 16 * 7 / 8),  # Axis a and a half of b.
        "reduce-scatter": (2, 2 * 16 * 8 * 7 / 8 + 4 * 16 * 15 / 16),
        "send": (1, 16),
    }
