# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""How many images a second and core the input makes, beside a torch DataLoader with Pillow.

    pip install torch opencv-python-headless kornia-rs
    PYTHONPATH=. python tests/benchmarks/input.py --images=PHOTOS [--size=500x375] [--repeats=5]

JPEG bytes of a folder -> random crop of 90 to 100 % of the area, bicubic with antialiasing to 224
px -> mirrored half of the time -> uint8 batches of 64, in two worker processes on either side, one
after the other in one run. The files are the photographs of PHOTOS at one size, quality 90.

    decoders     CPU milliseconds an image of the JPEG decoders there are, one thread
    resizes      the same of the antialiased bicubic resizes there are, decoded -> 224 px
    pipelines    images/s/core of both, and the median of their ratios
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from pathlib import Path

# No thread of any library beside the workers.
os.environ.update(OMP_NUM_THREADS="1", RAYON_NUM_THREADS="1", JAX_PLATFORMS="cpu")

import numpy as np
import simplejpeg
from PIL import Image

from jvlm.data import images
from jvlm.data.pipeline import TrainBatches
from jvlm.data.sources import build_source
from jvlm.data.transforms import compose

SIDE, BATCH, WORKERS, SCALE, RATIO = 224, 64, 2, (0.9, 1.0), (3 / 4, 4 / 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True, help="folder of photographs")
    parser.add_argument("--size", default="500x375")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, default=40)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(args.images, Path(folder), width, height)
        data = [file.read_bytes() for file in files[:12]]
        print(f"{len(files)} files of {args.size}, {sum(map(len, data)) / len(data) / 1e3:.0f} kB")
        print("decoders ", table(decoders(), data))
        arrays = [images.decode(d) for d in data]
        print("resizes  ", table(resizes(), arrays))
        ratios = []
        for _ in range(args.repeats):
            ours, theirs = (run(folder, args.batches) for run in (run_jvlm, run_torch))
            ratios.append(ours / theirs)
            print(f"images/s/core: jvlm {ours:.0f}, torch {theirs:.0f}, ratio {ratios[-1]:.2f}")
        print(
            f"median ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def write_files(source: str, folder: Path, width: int, height: int) -> list[Path]:
    """240 crops of the photographs; all of the same size, no two the same."""
    photos = [Image.fromarray(images.read(file)) for file in sorted(Path(source).glob("*.jp*g"))]
    rng = np.random.default_rng(0)
    files = []
    for index in range(240):
        photo = photos[index % len(photos)]
        scale = max(width / photo.width, height / photo.height) * rng.uniform(1.0, 1.2)
        photo = photo.resize((round(photo.width * scale) + 1, round(photo.height * scale) + 1))
        left = rng.integers(photo.width - width + 1)
        top = rng.integers(photo.height - height + 1)
        files.append(folder / f"{index:03}.jpg")
        photo.crop((left, top, left + width, top + height)).save(files[-1], quality=90)
    return files


def decoders() -> dict:
    import cv2

    cv2.setNumThreads(0)
    bgr = lambda d: cv2.imdecode(np.frombuffer(d, np.uint8), cv2.IMREAD_COLOR)
    from kornia_rs import io as kornia

    return {
        "Pillow": lambda d: np.asarray(Image.open(io.BytesIO(d)).convert("RGB")),
        "simplejpeg": lambda d: simplejpeg.decode_jpeg(d, "RGB"),
        "simplejpeg, fast DCT": lambda d: simplejpeg.decode_jpeg(
            d, "RGB", fastdct=True, fastupsample=True
        ),
        "OpenCV": lambda d: cv2.cvtColor(bgr(d), cv2.COLOR_BGR2RGB),
        "kornia-rs": lambda d: kornia.decode_image_jpegturbo(d, "rgb"),
    }


def resizes() -> dict:
    return {
        "Pillow": lambda a: images.resize(a, SIDE, SIDE),
        "cykooz.resizer": lambda a: images.resize_fast(a, SIDE, SIDE),
    }


def table(functions: dict, inputs: list) -> str:
    """CPU milliseconds a call; the least of several rounds, since others use the machine."""
    rounds = {name: [] for name in functions}
    for _ in range(15):
        for name, function in functions.items():
            began = time.process_time()
            for item in inputs:
                function(item)
            rounds[name].append((time.process_time() - began) / len(inputs) * 1e3)
    return ", ".join(f"{name} {min(times):.2f}" for name, times in rounds.items())


def run_jvlm(folder: str, batches: int) -> float:
    steps = (
        ("decode_image", {}),
        ("random_resized_crop", dict(size=SIDE, scale=SCALE, ratio=RATIO)),
        ("random_flip", {}),
        ("keep", dict(keys=("image",))),
    )
    source = build_source(dict(kind="folder", path=folder))
    train = TrainBatches(source, compose(steps, tokenizer=None), BATCH, seed=0)
    iterator = train.iterate(0, workers=WORKERS)
    rate = measure(iterator, batches, lambda batch: batch["image"].shape)
    iterator.close()
    return rate


class Folder:
    """A map-style torch data set as one writes it with Pillow."""

    def __init__(self, folder: str):
        self.files = sorted(Path(folder).iterdir())

    def __len__(self):
        return 1 << 30

    def __getitem__(self, index):
        import torch

        rng = np.random.default_rng(index)
        image = Image.open(self.files[index % len(self.files)]).convert("RGB")
        area = image.width * image.height * rng.uniform(*SCALE)
        while True:
            aspect = np.exp(rng.uniform(*np.log(RATIO)))
            w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if w <= image.width and h <= image.height:
                break
        left, top = rng.integers(image.width - w + 1), rng.integers(image.height - h + 1)
        image = image.crop((left, top, left + w, top + h))
        image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(image))


def run_torch(folder: str, batches: int) -> float:
    import torch

    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(
        Folder(folder), BATCH, num_workers=WORKERS, persistent_workers=True, prefetch_factor=2
    )
    iterator = iter(loader)
    rate = measure(iterator, batches, lambda batch: tuple(batch.shape))
    del iterator, loader
    return rate


def measure(iterator, batches: int, shape) -> float:
    """Images a second and core, after the workers have started."""
    for _ in range(2 * WORKERS + 2):
        assert shape(next(iterator)) == (BATCH, SIDE, SIDE, 3)
    began = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    return batches * BATCH / (time.perf_counter() - began) / WORKERS


if __name__ == "__main__":
    main()
