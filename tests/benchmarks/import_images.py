# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""How many images a second `jvlm data import` takes in, and how much memory all of it needs.

    PYTHONPATH=. python tests/benchmarks/import_images.py [--images=N] [--rows=N] [--bad=SHARE]

Makes JPEGs of 500x375 with a COCO-like amount of detail (about 50 kB) and a captions JSON as
ALBEF's, then runs the real command on two workers, three times. With more --rows than images a
picture has several rows that are no neighbours, each stored with its own copy unless --link.
Memory is the largest sum of the proportional set sizes (PSS) of the command's processes; the page
cache does not count. `--bad=0.01` damages so many: truncated or missing. Where others use the
machine too, the records per second of CPU time are the figure that lasts.
"""

import argparse
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import simplejpeg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--bad", type=float, default=0.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="kept, and used again (default: a temporary one)")
    parser.add_argument("options", nargs="*", help="of the command, after --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        make(folder, args.images, args.rows or args.images, args.bad)
        rates, peaks = [], []
        for _ in range(args.repeats):
            shutil.rmtree(folder / "imported", ignore_errors=True)
            seconds, cpu, peak, answer = run(folder, args.options)
            rates.append(answer["records"] / seconds)
            peaks.append(peak)
            print(
                f"{rates[-1]:.0f} records/s in {seconds:.1f} s, {answer['records'] / cpu:.0f} per "
                f"CPU second, {answer['bytes'] / 1e6:.0f} MB stored, peak memory {peak:.0f} MB, "
                f"dropped {answer['dropped']}, load {os.getloadavg()[0]:.1f}"
            )
        print(f"median {statistics.median(rates):.0f} records/s, peak {max(peaks):.0f} MB")


def make(folder: Path, images: int, rows: int, bad: float) -> None:
    """Writes what is not there yet."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pictures = [photograph(rng) for _ in range(64)]
    broken = set(rng.choice(images, int(bad * images), replace=False).tolist())
    for index in range(images):
        path = folder / "images" / f"{index:06}.jpg"
        data = pictures[index % len(pictures)]
        # A comment makes every file another one.
        data = data[:2] + b"\xff\xfe\x00\x0a%08d" % index + data[2:]
        if index not in broken:
            path.write_bytes(data)
        elif index % 2:
            path.write_bytes(data[: len(data) // 2])
        else:
            path.unlink(missing_ok=True)
    entries = (
        {
            "image": f"{row % images:06}.jpg",
            "caption": f"a synthetic photograph with the number {row}, in front of a hillside",
            "image_id": f"synthetic_{row % images}",
        }
        for row in range(rows)
    )
    (folder / "captions.json").write_text(json.dumps(list(entries)))


def photograph(rng: np.random.Generator) -> bytes:
    """Noise at all scales, as natural images have it: amplitude falls as 1 / frequency."""
    height, width = 375, 500
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    frequency[0, 0] = 1
    noise = np.fft.fft2(rng.standard_normal((3, height, width)))
    pixels = np.fft.ifft2(noise / frequency**1.3).real
    pixels = 128 + 50 * pixels / pixels.std(axis=(1, 2), keepdims=True)
    pixels = np.ascontiguousarray(np.clip(pixels, 0, 255).astype(np.uint8).transpose(1, 2, 0))
    return simplejpeg.encode_jpeg(pixels, quality=85, colorsubsampling="420")


def run(folder: Path, options: list[str]) -> tuple[float, float, float, dict]:
    """Seconds, CPU seconds, largest memory in MB, and what the command answers."""
    command = [sys.executable, "-m", "jvlm.cli", "data", "import", "albef"]
    command += [folder / "captions.json", folder / "imported", "--images", folder / "images"]
    command += ["--workers", "2", "--json", *options]
    began, spent = time.perf_counter(), cpu_seconds()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(0.1)
    seconds = time.perf_counter() - began
    if process.returncode:
        sys.exit(process.returncode)
    return seconds, cpu_seconds() - spent, peak, json.load(io.TextIOWrapper(process.stdout))


def cpu_seconds() -> float:
    """Of all processes that ended below this one."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def memory(pid: int) -> float:
    """MB of a process and all that it started."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # Just gone.
        return 0.0
    own = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e3
    return own + sum(memory(int(child)) for child in children)


if __name__ == "__main__":
    main()
