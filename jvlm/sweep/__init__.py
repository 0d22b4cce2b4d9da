# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sweeps over config files: points, the study that workers share, workers, results.

A point is a dict of overrides, {'optim.lr': 1e-3, 'optim.b2': 0.98}; a trial is the training of a
point in a run directory of its own, `<sweep>/trials/<number>`.
"""
