"""How fast is training, next to pytorch/examples' dcgan?

git clone https://github.com/pytorch/examples
python benchmarks/train_speed.py examples/dcgan/main.py                       # on a CPU
python benchmarks/train_speed.py examples/dcgan/main.py --images 20000 --more-epochs 5 --profile
                                                                              # on a GPU
Whole processes, in turn, on the same folder of full-size JPEGs, with the same nets and batch: each
trains 1 epoch and then 1 + more_epochs. The difference holds no start-up. What the first start here
takes longer than later ones, the packing of the images, is shown with and without.

The step alone: both programs' own step on one batch that lies on the device already. What it
computes in a second is compared with what one large matrix product reaches on the same device.
Where the device has units for bfloat16, step and product are in bfloat16, and this step (captured, on
a GPU) and the eager float32 step are also run on the same 200 batches, to see whether they take the
same course.
"""

import os
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from unittest import mock

import torch
import tyro
from setting import ROOT, describe_machine, in_turn, print_table, run, write_jpegs

import gan_demo
from common_tools import RunError, choose_device, set_seed
from dcgan import Discriminator, Generator
from gan_demo import CHAPTER, METRICS
from machinery.acceleration import CapturedStep, fused_adam, has_bf16
from machinery.batches import FaceBatches
from machinery.constants import Count
from my_dataset import load_faces


@dataclass
class Config:
    peer: tyro.conf.Positional[str]  # path of pytorch/examples' dcgan/main.py
    data_dir: str = ""  # folder or .zip of faces; empty: drawn ones
    images: Count = 1280  # full-size JPEGs to make of them
    more_epochs: Count = 1  # that the longer run has more than the shorter
    width: Count = 64  # ngf and ndf
    batch_size: Count = 64  # images in one iteration
    workers: int = 2  # of the peer's DataLoader (its own default)
    iterations: int = 0  # of the step alone (0: 200 on a GPU, else 8)
    runs: Count = 3  # of each, in turn; the median counts
    device: str = "auto"  # auto, cpu or cuda
    whole: bool = True  # time whole processes too, not only the step
    profile: bool = False  # show which operators the step spends its time in


def whole_processes(config, device, here):
    """Images/s of both as whole processes, and the seconds that packing takes."""
    folder = Path(here, "images")
    width, batch = str(config.width), str(config.batch_size)
    theirs = [sys.executable, config.peer, "--dataset", "folder", "--dataroot", folder]
    theirs += ["--ngf", width, "--ndf", width, "--batchSize", batch, "--outf", Path(here, "peer")]
    theirs += ["--workers", str(config.workers), *(["--accel"] if device.type != "cpu" else [])]
    ours = [sys.executable, ROOT / "gan_demo.py", "--data-dir", folder, "--device", str(device)]
    ours += ["--ngf", width, "--ndf", width, "--batch-size", batch, "--out-dir", Path(here, "runs")]
    ours += ["--cache-dir", Path(here, "cache"), "--recipe", "chapter", "--num-epochs"]

    def run(command, epochs):
        subprocess.run([*map(str, command), str(epochs)], check=True, capture_output=True)

    def pack_and_run():
        shutil.rmtree(Path(here, "cache"), ignore_errors=True)
        run(ours, 1)

    longer = 1 + config.more_epochs
    seconds = in_turn(
        config.runs,
        pack=pack_and_run,
        ours_short=lambda: run(ours, 1),
        theirs_short=lambda: run([*theirs, "--niter"], 1),
        ours_long=lambda: run(ours, longer),
        theirs_long=lambda: run([*theirs, "--niter"], longer),
    )
    images = config.more_epochs * config.images
    rates = [images / (seconds[f"{who}_long"] - seconds[f"{who}_short"]) for who in WHO]
    return *rates, max(0, seconds["pack"] - seconds["ours_short"])


WHO = ("ours", "theirs")


def peer_step(config, batch, outf):
    """Median seconds of an iteration of the peer's own loop; its data loader gives one batch."""
    times = []

    class Loader:
        def __init__(self, *_, **__):
            pass

        def __len__(self):
            return config.iterations

        def __iter__(self):
            for _ in range(config.iterations + 1):
                times.append(time.perf_counter())
                yield batch, None

    width = str(config.width)
    argv = [config.peer, "--dataset", "fake", "--niter", "1", "--outf", outf, "--ngf", width]
    argv += ["--ndf", width, "--batchSize", str(config.batch_size)]
    argv += [] if batch.device.type == "cpu" else ["--accel"]
    with (
        mock.patch.object(sys, "argv", list(map(str, argv))),
        mock.patch.object(torch.utils.data, "DataLoader", Loader),
        open(os.devnull, "w") as nowhere,
        redirect_stdout(nowhere),
    ):
        runpy.run_path(config.peer, run_name="__main__")
    return statistics.median(end - start for start, end in pairwise(times[2:]))


def make_step(config, device, bf16=True, captured=True):
    """Our step as gan_demo.train makes it: a function of a batch and noise."""
    set_seed(1)
    generator = Generator(ngf=config.width)
    discriminator = Discriminator(ndf=config.width)
    for net in (generator, discriminator):
        net.initialize_weights()
        net.to(device, memory_format=torch.channels_last)
    options = gan_demo.Config(**CHAPTER, bf16=bf16)
    optimizers = [fused_adam(net, options.lr, options.beta1) for net in (generator, discriminator)]

    def step(real, noise):
        return gan_demo.train_step(real, noise, generator, discriminator, *optimizers, options)

    if device.type == "cuda" and captured:
        torch.backends.cudnn.benchmark = True
        return CapturedStep(step, required=True)
    return step


def our_step(config, batch):
    """Median seconds of an iteration here, of blocks of them on a GPU (none waits by itself)."""
    step = make_step(config, batch.device)
    block = 20 if batch.device.type == "cuda" else 1
    times = []
    for iteration in range(config.iterations + 2 * block):
        if iteration % block == 0:
            if batch.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter())
        step(batch, torch.randn(config.batch_size, 100, 1, 1, device=batch.device))
    return statistics.median(end - start for start, end in pairwise(times[2:])) / block


def dtype_of(device):
    """What the nets compute in there."""
    return torch.bfloat16 if has_bf16(device.type) else torch.float32


def matrix_product_rate(device):
    """Operations per second of a large matrix product, the best of several."""
    on_gpu = device.type == "cuda"
    size, dtype = 8192 if on_gpu else 2048, dtype_of(device)
    matrix, seconds = torch.randn(size, size, device=device, dtype=dtype), []
    for _ in range(10):
        start = time.perf_counter()
        matrix @ matrix
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def course(config, device, here, fast):
    """Means of METRICS over the second half of 200 iterations on the benchmark's images."""
    images, _ = load_faces(Path(here, "images"), Path(here, "cache"))
    faces = FaceBatches(images, config.batch_size, 1, device)
    step, rows = make_step(config, device, bf16=fast, captured=fast), []
    random = torch.Generator(device).manual_seed(1)
    for epoch in count():
        for real in faces.epoch(epoch):
            noise = torch.randn(config.batch_size, 100, 1, 1, device=device, generator=random)
            rows.append(step(real, noise))
            if len(rows) == 200:
                return torch.stack(rows[100:]).mean(0).tolist()


def multiply_adds(width):
    """Multiply-adds that one image costs in an iteration at ngf = ndf = width."""

    def of_a_pass(net, example):
        counts = []

        def note(layer, inputs, output):
            pixels = min(images[0, 0].numel() for images in (inputs[0], output))
            counts.append(layer.weight.numel() * pixels)

        for layer in net.modules():
            if hasattr(layer, "kernel_size"):
                layer.register_forward_hook(note)
        net.eval()(example)
        return sum(counts)

    # G: forward, and gradients by input and by weight. D: forward on real, on fake and again on
    # fake; gradients by input of each of the three, by weight of the first two.
    generator = of_a_pass(Generator(ngf=width), torch.zeros(1, 100, 1, 1))
    discriminator = of_a_pass(Discriminator(ndf=width), torch.zeros(1, 3, 64, 64))
    return 3 * generator + 8 * discriminator


def main(config: Config):
    device = choose_device(config.device)
    if not Path(config.peer).is_file():
        raise RunError(f"{config.peer} does not exist; name the path of dcgan/main.py.")
    config.iterations = config.iterations or (200 if device.type == "cuda" else 8)
    rows, courses = [], []
    with tempfile.TemporaryDirectory() as here:
        write_jpegs(config.data_dir, Path(here, "images", "faces"), config.images)
        if config.whole:
            ours, theirs, packing = whole_processes(config, device, here)
            rows.append(["whole run, images packed already", ours, theirs])
            epochs = 5
            counted = epochs * config.images / (epochs * config.images / ours + packing)
            rows.append([f"whole run of {epochs} epochs, packing counted", counted, theirs])
        batch = torch.rand(config.batch_size, 3, 64, 64, device=device) * 2 - 1
        own_batch = batch.to(memory_format=torch.channels_last)
        seconds = {name: [] for name in WHO}
        for _ in range(config.runs):
            seconds["ours"].append(our_step(config, own_batch))
            seconds["theirs"].append(peer_step(config, batch, here))
        step = [config.batch_size / statistics.median(seconds[name]) for name in WHO]
        rows.append(["the step alone", *step])
        if has_bf16(device.type):
            courses = [course(config, device, here, fast) for fast in (True, False)]

    print(f"{describe_machine()}; {device}")
    kind = str(dtype_of(device)).removeprefix("torch.")
    print(f"ngf = ndf = {config.width}, batch {config.batch_size}; {kind} here\n")
    print_table(
        ["", "here, images/s", "pytorch/examples, images/s", "ratio"],
        [[*row, row[1] / row[2]] for row in rows],
    )
    operations = 2 * multiply_adds(config.width)
    limit = matrix_product_rate(device)
    here, there = (operations * rate for rate in step)
    print(
        f"\nAn iteration takes {operations / 1e9:.2f} GFLOP an image; the step does "
        f"{here / 1e9:,.0f} GFLOP/s here, {there / 1e9:,.0f} there, a matrix product "
        f"{limit / 1e9:,.0f}: {here / limit:.0%} and {there / limit:.0%} of it."
    )
    if courses:
        print("\nMeans of iterations 101 to 200:\n")
        names = ("bfloat16", "float32")
        print_table(["", *METRICS], [[name, *means] for name, means in zip(names, courses)])
    if config.profile:
        step = make_step(config, device, captured=False)
        noise = torch.randn(config.batch_size, 100, 1, 1, device=device)
        for _ in range(3):
            step(own_batch, noise)
        with torch.profiler.profile() as profile:
            for _ in range(3):
                step(own_batch, noise)
        kind = "cuda" if device.type == "cuda" else "cpu"
        print(profile.key_averages().table(sort_by=f"self_{kind}_time_total", row_limit=12))


if __name__ == "__main__":
    run(main, Config)
