# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm data import`: published annotation formats into array_record with TFDS metadata."""

from jvlm.data.importers.benchmarks import BENCHMARKS
from jvlm.data.importers.captioning import CAPTIONING
from jvlm.data.importers.captions import CAPTIONED
from jvlm.data.importers.choices import CHOICES
from jvlm.data.importers.dialogue import DIALOGUE
from jvlm.data.importers.grounding import GROUNDING
from jvlm.data.importers.poems import POEMS
from jvlm.data.importers.questions import QUESTIONS
from jvlm.data.importers.records import Kind
from jvlm.data.importers.statements import STATEMENTS
from jvlm.data.importers.video import VIDEO
from jvlm.data.importers.web import WEB

KINDS: dict[str, Kind] = {
    **CAPTIONING,
    **CAPTIONED,
    **QUESTIONS,
    **CHOICES,
    **BENCHMARKS,
    **VIDEO,
    **DIALOGUE,
    **GROUNDING,
    **STATEMENTS,
    **POEMS,
    **WEB,
}
