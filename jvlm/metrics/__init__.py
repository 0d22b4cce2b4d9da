# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics: pure numpy functions of predictions."""
