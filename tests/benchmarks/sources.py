# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Examples a second in training's shuffled order, from every way to store the same pictures.

    PYTHONPATH=. python tests/benchmarks/sources.py --images=PHOTOS [--count=2000]

The pictures are crops of the photographs of PHOTOS, 256 px, quality 85, with a caption and a URL.
Bytes only: nothing is decoded. Files come from the page cache, one thread reads; of three rounds
the median.
"""

import argparse
import io
import json
import os
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

os.environ.update(JAX_PLATFORMS="cpu")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_datasets as tfds
from PIL import Image

from jvlm.data import images
from jvlm.data.order import example_index
from jvlm.data.sources import build_source
from jvlm.data.sources.folder import image_files
from jvlm.data.sources.tar_index import make_index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True, help="folder of photographs")
    parser.add_argument("--count", type=int, default=2000)
    args = parser.parse_args()
    pictures = crops(args.images, args.count)
    print(f"{len(pictures)} pictures, {sum(map(len, pictures)) / len(pictures) / 1e3:.1f} kB")
    with tempfile.TemporaryDirectory() as folder:
        for name, section in write(Path(folder), pictures).items():
            began = time.perf_counter()
            source = build_source(section)
            opened = time.perf_counter() - began
            rates = [rate(source, seed) for seed in range(3)]
            print(
                f"{name:28} {statistics.median(rates):8,.0f} examples/s; opened in {opened:.3f} s"
            )
        began = time.perf_counter()
        starts, _ = make_index(f"{folder}/0.tar")
        seconds = (time.perf_counter() - began) / (3 * (len(starts) - 1))
        print(f"tar: index made at {seconds * 1e6:.1f} microseconds a file")


def crops(folder: str, count: int) -> list[bytes]:
    rng, encoded = np.random.default_rng(0), []
    photos = [Image.fromarray(images.read(file)) for file in image_files(folder)]
    for number in range(count):
        photo = photos[number % len(photos)]
        side = min(photo.size)
        left, top = (int(rng.integers(length - side // 2)) for length in photo.size)
        crop = photo.crop((left, top, left + side // 2, top + side // 2)).resize((256, 256))
        data = io.BytesIO()
        crop.save(data, "JPEG", quality=85)
        encoded.append(data.getvalue())
    return encoded


def write(folder: Path, pictures: list[bytes]) -> dict[str, dict]:
    """The pictures in every format; name -> the source that reads them."""
    rows = [
        {"image": data, "caption": f"picture {n}", "url": f"https://x/{n}"}
        for n, data in enumerate(pictures)
    ]
    with tarfile.open(folder / "0.tar", "w") as tar:
        for number, row in enumerate(rows):
            texts = {"txt": row["caption"], "json": json.dumps({"url": row["url"]})}
            files = {"jpg": row["image"], **{key: text.encode() for key, text in texts.items()}}
            for extension, data in files.items():
                entry = tarfile.TarInfo(f"{number:09d}.{extension}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    pq.write_table(pa.Table.from_pylist(rows), folder / "x.parquet", row_group_size=100)
    with open(folder / "x.jsonl", "w") as lines:
        for number, row in enumerate(rows):
            (folder / f"{number}.jpg").write_bytes(row["image"])
            lines.write(json.dumps({**row, "image": f"{number}.jpg"}) + "\n")
    write_tfds(folder, rows)
    parquet = dict(kind="parquet", path=str(folder / "x.parquet"))
    return {
        "array_record": dict(kind="tfds", name="pictures", split="train", data_dir=str(folder)),
        "tar": dict(kind="tar", path=str(folder / "0.tar")),
        "JSON lines and files": dict(kind="jsonl", path=str(folder / "x.jsonl")),
        "Parquet, all in memory": parquet,
        "Parquet, nothing in memory": {**parquet, "memory": 0},
        "Parquet, cache": {**parquet, "memory": 0, "cache": str(folder / "cache")},
    }


def write_tfds(folder: Path, rows: list[dict]) -> None:
    kinds = {"image": tfds.features.Image(), "caption": tfds.features.Text()}

    class Pictures(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({**kinds, "url": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, manager):
            return {"train": enumerate(rows)}

        def _generate_examples(self):
            raise NotImplementedError

    tfds.disable_progress_bar()
    Pictures(data_dir=str(folder), file_format="array_record").download_and_prepare()


def rate(source, seed: int, seconds: float = 2.0) -> float:
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        source[example_index(seed, done, len(source))]
        done += 1
    return done / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
