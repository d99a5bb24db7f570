"""How fast do images get from JPEG files to batches?

python benchmarks/data_speed.py                                    # with drawn faces
python benchmarks/data_speed.py --data-dir my_images.zip

First time: decoding a folder of full-size JPEGs into one array, against a pass of a DataLoader over
the chapter's data set and transform, with as many workers as we use cores. Later epochs: a pass of
batches from the array, against that same DataLoader. And the time that opening an array of CelebA's
size takes.
"""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from setting import describe_machine, in_turn, print_table, run, write_jpegs
from torch.utils.data import DataLoader, Dataset

from common_tools import choose_device
from machinery.batches import FaceBatches, to_images
from machinery.constants import Count
from machinery.packing import ABOUT, open_packed
from my_dataset import face_transform, load_faces

CELEBA_IMAGES = 202_599


@dataclass
class Config:
    data_dir: str = ""  # folder or .zip of faces; empty: drawn ones
    images: Count = 8000  # full-size JPEGs to make of them
    image_size: Count = 64  # pixels a side
    batch_size: Count = 64  # images in a batch
    workers: int = os.cpu_count() or 1  # of the DataLoader
    runs: Count = 5  # of each, in turn; the median counts
    device: str = "auto"  # where the batches are wanted


class ChapterDataset(Dataset):
    """Images of a folder as the chapter reads them: open, decode, transform, one by one."""

    def __init__(self, folder, image_size):
        self.paths = sorted(Path(folder).iterdir())
        self.transform = face_transform(image_size)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def main(config: Config):
    device = choose_device(config.device)
    with tempfile.TemporaryDirectory() as here:
        folder, cache = Path(here, "faces"), Path(here, "cache")
        write_jpegs(config.data_dir, folder, config.images)
        dataset = ChapterDataset(folder, config.image_size)
        loader = DataLoader(dataset, config.batch_size, shuffle=True, num_workers=config.workers)

        def wait():
            if device.type == "cuda":
                torch.cuda.synchronize()

        def load():
            for batch in loader:
                batch.to(device)
            wait()

        def pack():
            shutil.rmtree(cache, ignore_errors=True)
            load_faces(folder, cache, config.image_size)

        first = in_turn(config.runs, ours=pack, theirs=load)
        packed, _ = load_faces(folder, cache, config.image_size)
        assert all(
            torch.equal(to_images(torch.tensor(packed[index])[None])[0], dataset[index])
            for index in range(len(dataset))
        )
        batches = FaceBatches(packed, config.batch_size, 1, device)

        def pass_over():
            for _ in batches.epoch(0):
                pass
            wait()

        later = in_turn(config.runs, ours=pass_over, theirs=load)

        celeba = Path(here, "celeba.npy")
        shape = (CELEBA_IMAGES, config.image_size, config.image_size, 3)
        np.lib.format.open_memmap(celeba, "w+", dtype=np.uint8, shape=shape).flush()
        with celeba.open("ab") as file:
            about = {key: kind() for key, kind in ABOUT.items()} | {"name": celeba.name}
            file.write(json.dumps(about).encode())
        opening = in_turn(config.runs, seconds=lambda: open_packed(celeba)[0][-1].sum())

    print(f"{describe_machine()}; {config.images:,} JPEGs of 178 x 218, batches on {device}")
    print("The packed pixels equal the chapter's, all of them.\n")
    rows = [
        [name, config.images / each["ours"], config.images / each["theirs"]]
        for name, each in {"first time (packing)": first, "later epochs": later}.items()
    ]
    dataloader = f"DataLoader, {config.workers} workers, images/s"
    print_table(
        ["", "here, images/s", dataloader, "ratio"],
        [[*row, row[1] / row[2]] for row in rows],
    )
    print(f"\nOpening a packed array of {CELEBA_IMAGES:,} images: {opening['seconds']:.3f} s")


if __name__ == "__main__":
    run(main, Config)
