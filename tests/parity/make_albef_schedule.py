# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records the learning rates of ALBEF's scripts, step by step, by their own scheduler.

    python -m tests.parity.make_albef_schedule ALBEF    # writes tests/golden/albef_schedule.json

ALBEF is a clone of salesforce/ALBEF (b9727e4); needs torch. Only `scheduler/` is used; when the
scripts step it is written down here (Pretrain.py 79 and 155, Retrieval.py the same in other words).
"""

import json
import pathlib
import sys
import types

GOLDEN = pathlib.Path(__file__).parent.parent / "golden/albef_schedule.json"
RUNS = {  # configs/*.yaml -> (lr, min_lr, warmup_lr, epochs, warmup_epochs)
    "Pretrain": (1e-4, 1e-5, 1e-5, 30, 20),
    "VQA": (2e-5, 1e-6, 1e-5, 8, 4),
    "NLVR": (2e-5, 1e-6, 1e-5, 10, 1),
    "Retrieval_coco": (1e-5, 1e-6, 1e-5, 5, 1),
}
STEPS = (250, 2130)  # Of an epoch: shorter, and longer, than Pretrain's warm-up.


def main(source: str):
    sys.path.insert(0, source)
    import torch
    from scheduler import create_scheduler

    rates = {}
    for name, (lr, min_lr, warmup_lr, epochs, warmup) in RUNS.items():
        for count in STEPS:
            optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(()))], lr=lr)
            options = dict(sched="cosine", lr=lr, epochs=epochs, min_lr=min_lr, decay_rate=1)
            options |= dict(warmup_lr=warmup_lr, warmup_epochs=warmup, cooldown_epochs=0)
            scheduler, _ = create_scheduler(types.SimpleNamespace(**options), optimizer)
            changes, last = [], None
            for epoch in range(epochs):
                if epoch > 0:
                    scheduler.step(epoch + warmup)
                for i in range(count):
                    rate = optimizer.param_groups[0]["lr"]
                    if rate != last:
                        changes.append((epoch * count + i, rate))
                        last = rate
                    if epoch == 0 and i % 100 == 0 and i <= 100 * warmup:
                        scheduler.step(i // 100)
            given = dict(lr=lr, end_lr=min_lr, warmup_lr=warmup_lr, steps=epochs * count)
            given |= dict(warmup_steps=100 * warmup, decay_every=count)
            rates[f"{name}/{count}"] = {"given": given, "changes": changes}
    GOLDEN.write_text(json.dumps(rates, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
