"""How fast are faces drawn and written as PNG files?

python benchmarks/sample_speed.py

gan_inference.save_faces against the plain loop: draw a batch, write its faces one after another with
torchvision's save_image. Both in this process, with the same untrained generator; only the files of
the last run are kept long enough to be compared. And what starting gan_inference.py costs.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from setting import ROOT, describe_machine, in_turn, print_table, run
from torchvision.utils import save_image

from common_tools import choose_device, set_seed
from dcgan import Generator
from gan_inference import save_faces
from machinery.constants import Count
from sampling import BLOCK, draw_noise, generate


@dataclass
class Config:
    images: Count = 2048  # faces to draw
    ngf: Count = 64  # width of the generator
    runs: Count = 5  # of each, in turn; the median counts
    device: str = "auto"  # auto, cpu or cuda


def main(config: Config):
    device = choose_device(config.device)
    set_seed(1)
    generator = Generator(ngf=config.ngf).to(device)
    with tempfile.TemporaryDirectory() as here:
        ours_to, theirs_to = Path(here, "ours"), Path(here, "theirs")

        def blocks():
            for noise in draw_noise(config.images, 100, seed=1):
                yield generate(generator, noise.to(device)).cpu()

        def ours():
            shutil.rmtree(ours_to, ignore_errors=True)
            save_faces(blocks(), config.images, ours_to)

        def theirs():
            shutil.rmtree(theirs_to, ignore_errors=True)
            theirs_to.mkdir()
            for first, block in zip(range(0, config.images, BLOCK), blocks()):
                for number, face in enumerate(block[: config.images - first], first):
                    save_image(
                        face, theirs_to / f"{number:06d}.png", normalize=True, value_range=(-1, 1)
                    )

        def draw_only():
            for _ in blocks():
                pass

        seconds = in_turn(config.runs, ours=ours, theirs=theirs, draw_only=draw_only)
        for one, other in zip(sorted(ours_to.iterdir()), sorted(theirs_to.iterdir()), strict=True):
            difference = np.asarray(Image.open(one), int) - np.asarray(Image.open(other), int)
            assert abs(difference).max() <= 1
    help_text = [sys.executable, ROOT / "gan_inference.py", "--help"]
    import_torch = [sys.executable, "-c", "import torch"]
    start = in_turn(
        config.runs,
        ours=lambda: subprocess.run(help_text, check=True, capture_output=True),
        torch=lambda: subprocess.run(import_torch, check=True, capture_output=True),
    )

    print(f"{describe_machine()}; {device}, {os.cpu_count()} encoders, ngf {config.ngf}\n")
    rates = {name: config.images / each for name, each in seconds.items()}
    rows = [
        ["gan_inference.save_faces", rates["ours"], rates["ours"] / rates["theirs"]],
        ["plain loop with save_image", rates["theirs"], 1.0],
        ["drawing alone, no files", rates["draw_only"], rates["draw_only"] / rates["theirs"]],
    ]
    print_table(["", "faces/s", "ratio"], rows)
    print(f"\nStarting takes {start['ours'] / start['torch']:.2f} times as long as import torch.")


if __name__ == "__main__":
    run(main, Config)
