"""What the benchmarks share: the machine's name, full-size JPEGs, and timing in turn."""

import io
import os
import platform
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import torch
import tyro
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from common_tools import run_as_script
from drawings.faces import draw_faces
from machinery.constants import check_ranges
from machinery.processes import map_in_processes
from my_dataset import CelebADataset

FULL_SIZE = (178, 218)  # of CelebA's aligned images


def run(main, config_class):
    """What a benchmark does as a script: main(config), with the constants of the command line."""

    def checked():
        config = tyro.cli(config_class)
        check_ranges(config)
        main(config)

    run_as_script(checked)


def describe_machine():
    """One line: processor or GPU, cores, versions."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(": ")[1] for line in lines if "model name" in line), cpu)
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{os.cpu_count()} cores ({cpu}, {capability}){gpu}; Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )


def write_jpegs(data_dir, folder, count):
    """Fill folder with count JPEGs of CelebA's full size, from the images of data_dir.

    They are repeated if there are too few. Without a data_dir, faces are drawn.
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    if not data_dir:
        data_dir = folder.parent / "drawn.zip"
        draw_faces(data_dir, min(count, 2000))
    source = CelebADataset(data_dir, full_size_jpeg)
    number = 0
    while number < count:
        for jpegs in map_in_processes(partial(items, source), range(len(source)), 16):
            for jpeg in jpegs[: count - number]:
                (folder / f"{number:06d}.jpg").write_bytes(jpeg)
                number += 1


def full_size_jpeg(image):
    jpeg = io.BytesIO()
    image.resize(FULL_SIZE, Image.Resampling.BICUBIC).save(jpeg, "JPEG", quality=90)
    return jpeg.getvalue()


def items(dataset, indices):
    return [dataset[index] for index in indices]


def in_turn(runs, **functions):
    """Call each function `runs` times, all in turn. Returns the median seconds of each by name."""
    seconds = {name: [] for name in functions}
    for _ in range(runs):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def print_table(head, rows):
    """A Markdown table; numbers above 100 without decimals."""

    def text(cell):
        return cell if isinstance(cell, str) else f"{cell:,.0f}" if cell >= 100 else f"{cell:.2f}"

    for row in [head, ["---"] * len(head), *rows]:
        print(f"| {' | '.join(map(text, row))} |")
