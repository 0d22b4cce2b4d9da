# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pure loss functions on arrays."""
