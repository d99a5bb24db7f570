"""Each benchmark as its user runs it, on next to nothing: the figures tell only that it works."""

import math
import os

import pytest
from conftest import run_script, save_images

# What train_speed.py needs of pytorch/examples' dcgan/main.py. It sleeps so that an epoch
# takes longer than the start of a process may vary.
PEER = """
import argparse
import time
from pathlib import Path

import torch
import torch.utils.data

parser = argparse.ArgumentParser()
for name in ("--dataset", "--dataroot", "--outf"):
    parser.add_argument(name)
for name in ("--ngf", "--ndf", "--batchSize", "--niter"):
    parser.add_argument(name, type=int, required=True)
parser.add_argument("--workers", type=int, default=0)
args = parser.parse_args()

images = torch.rand(24, 3, 64, 64)
if args.dataset == "folder":
    assert len(list(Path(args.dataroot).glob("*/*.jpg"))) == len(images)
dataset = torch.utils.data.TensorDataset(images, torch.zeros(len(images)))
loader = torch.utils.data.DataLoader(dataset, args.batchSize, num_workers=args.workers)
net = torch.nn.Conv2d(3, args.ndf, 4)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
for _ in range(args.niter):
    for batch, _ in loader:
        assert batch.shape == (args.batchSize, 3, 64, 64)
        optimizer.zero_grad()
        net(batch).mean().backward()
        optimizer.step()
        time.sleep(0.02)
"""


def run_benchmark(name, *arguments, cwd):
    """The figures in each row of a benchmark's table, and all that it printed."""
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # several wait for one another on busy cores
    flags = [*arguments, "--device", "cpu"]
    ended = run_script(f"benchmarks/{name}", *flags, cwd=cwd, env=one_thread)
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stdout.splitlines() if line.startswith("|")]
    _, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    table = {
        row: [float(cell.split(" ± ")[0].replace(",", "")) for cell in cells if cell]
        for row, *cells in rows
    }
    assert all(0 < figure < math.inf for figures in table.values() for figure in figures), table
    return table, ended.stdout


def assert_ratios(rows):
    for ours, theirs, ratio in rows:
        assert ratio == pytest.approx(ours / theirs, rel=0.05, abs=0.02)


def test_train_speed(images, tmp_path):
    (tmp_path / "main.py").write_text(PEER)
    sizes = "--images 24 --more-epochs 25 --width 4 --batch-size 8 --workers 0 --iterations 4"
    arguments = ["main.py", "--data-dir", images, *sizes.split(), "--runs", "1", "--profile"]
    table, printed = run_benchmark("train_speed.py", *arguments, cwd=tmp_path)
    assert list(table) == [
        "whole run, images packed already",
        "whole run of 5 epochs, packing counted",
        "the step alone",
    ]
    assert_ratios(table.values())
    assert table["the step alone"][1] < 8 / 0.02  # as the peer sleeps
    assert "GFLOP an image" in printed and "aten::convolution_backward" in printed


def test_data_speed(tmp_path):
    sizes = "--images 24 --image-size 32 --batch-size 8 --workers 1 --runs 1"
    table, printed = run_benchmark("data_speed.py", *sizes.split(), cwd=tmp_path)
    assert list(table) == ["first time (packing)", "later epochs"]
    assert_ratios(table.values())
    assert "Opening a packed array of 202,599 images: " in printed


def test_sample_speed(tmp_path):
    sizes = "--images 70 --ngf 4 --runs 1"
    table, printed = run_benchmark("sample_speed.py", *sizes.split(), cwd=tmp_path)
    ours, theirs, drawing = table.values()
    assert_ratios([[ours[0], theirs[0], ours[1]], [drawing[0], theirs[0], drawing[1]]])
    assert "times as long as import torch" in printed


def test_recipe_study(tmp_path):
    folder = save_images(tmp_path / "faces", 28)
    sizes = "--max-images 10 --num-img 9 --num-epochs 1 --width 4 --seeds 2"
    arguments = ["--data-dir", folder, *sizes.split(), "--only", "batch 8,default"]
    table, _ = run_benchmark("recipe_study.py", *arguments, cwd=tmp_path)
    figures = {recipe: len(row) for recipe, row in table.items()}
    assert figures == {"batch 8": 4, "default": 4, "other real images": 2}
    assert table["batch 8"] != table["default"]
    assert table["default"][:2] != table["default"][2:]  # its average
    runs = {
        path.parent.parent.name for path in tmp_path.glob("study/*/run1/checkpoint_0_epoch.pkl")
    }
    assert runs == {f"{recipe}_seed_{seed}" for recipe in ("batch_8", "default") for seed in (1, 2)}
    assert (tmp_path / "study/study.png").exists()
