# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm data import`: published annotation formats into array_record with TFDS metadata."""

from jvlm.data.importers.captions import CAPTIONED
from jvlm.data.importers.poems import POEMS
from jvlm.data.importers.records import Kind
from jvlm.data.importers.web import WEB

KINDS: dict[str, Kind] = {
    **CAPTIONED,
    **POEMS,
    **WEB,
}
