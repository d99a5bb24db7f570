"""Each benchmark as its user runs it, on next to nothing: the figures tell only that it works."""

import json
import math
import os
from itertools import dropwhile, takewhile

import numpy as np
import pytest
import torch
from conftest import ROOT, run_script, save_images
from PIL import Image

from dcgan import Generator
from gan_demo import Config
from machinery.acceleration import has_bf16

# What train_speed.py needs of pytorch/examples' dcgan/main.py. It sleeps so that an epoch
# takes longer than the start of a process may vary.
PEER = """
import argparse
import shutil
import time
from pathlib import Path

import torch
import torch.utils.data

parser = argparse.ArgumentParser()
for name in ("--dataset", "--dataroot", "--outf"):
    parser.add_argument(name)
for name in ("--ngf", "--ndf", "--niter"):
    parser.add_argument(name, type=int, required=True)
parser.add_argument("--batchSize", type=int, default=8)
parser.add_argument("--workers", type=int, default=0)
args = parser.parse_args()

images = torch.rand(24, 3, 64, 64)
if args.dataset == "folder":
    assert len(list(Path(args.dataroot).glob("*/*.jpg"))) == len(images)
    Path(args.outf).mkdir(exist_ok=True)
dataset = torch.utils.data.TensorDataset(images, torch.zeros(len(images)))
loader = torch.utils.data.DataLoader(dataset, args.batchSize, num_workers=args.workers)
net = torch.nn.Conv2d(3, args.ndf, 4)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
for epoch in range(args.niter):
    for batch, _ in loader:
        assert batch.shape == (args.batchSize, 3, 64, 64)
        optimizer.zero_grad()
        net(batch).mean().backward()
        optimizer.step()
        time.sleep(0.02)
    weights = Path(__file__).with_name("weights.pth")
    if weights.exists():
        shutil.copyfile(weights, Path(args.outf, f"netG_epoch_{epoch}.pth"))
"""


def run_benchmark(name, *arguments, cwd):
    """The figures in each row of a benchmark's (first) table, and all that it printed."""
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # several wait for one another on busy cores
    flags = [*arguments, "--device", "cpu"]
    ended = run_script(f"benchmarks/{name}", *flags, cwd=cwd, env=one_thread)
    assert ended.returncode == 0, ended.stderr
    lines = dropwhile(lambda line: not line.startswith("|"), ended.stdout.splitlines())
    lines = takewhile(lambda line: line.startswith("|"), lines)
    _, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    table = {
        row: [float(cell.split(" ± ")[0].replace(",", "")) for cell in cells if cell]
        for row, *cells in rows
    }
    assert all(0 < figure < math.inf for figures in table.values() for figure in figures), table
    return table, ended.stdout


def write_attributes(path, folder):
    """A file as list_attr_celeba.txt: of each image whether it is bright, and whether it is red."""
    rows = []
    for image in sorted(folder.iterdir()):
        red, _, blue = np.asarray(Image.open(image)).mean((0, 1))
        rows.append(f"{image.name} {1 if red + blue > 255 else -1} {1 if red > blue else -1}")
    path.write_text("\n".join([str(len(rows)), "Bright Red", *rows]))
    return path


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
    assert ("Means of iterations 101 to 200" in printed) == has_bf16("cpu")
    assert "GFLOP an image" in printed and "aten::convolution_backward" in printed


def test_quality_speed(tmp_path):
    """The stand-in's nets never change: its two distances must be one, and only the times differ."""
    (tmp_path / "main.py").write_text(PEER)
    torch.save(Generator(ngf=4).state_dict(), tmp_path / "weights.pth")
    folder = save_images(tmp_path / "faces", 33)
    sizes = "--images 24 --num-img 9 --peer-epochs 2 --width 4"
    arguments = ["main.py", "--data-dir", folder, *sizes.split()]
    table, printed = run_benchmark("quality_speed.py", *arguments, cwd=tmp_path)
    place = tmp_path / "quality_speed/comparison1"
    courses = json.loads((place / "courses.json").read_text())
    ours, theirs = courses["gan_demo.py"], courses["pytorch/examples"]
    assert len(ours) == Config.num_epochs and len(theirs) == 2
    assert table["at its end"] == pytest.approx([ours[-1][1], theirs[-1][1]], abs=1)
    assert theirs[0][1] == theirs[1][1] != ours[0][1]  # the stand-in keeps its weights
    assert [seconds for seconds, _ in ours] == sorted(seconds for seconds, _ in ours)
    assert theirs[1][0] - theirs[0][0] > 3 * 0.02  # as it sleeps
    assert len(list((place / "images/faces").iterdir())) == 24  # the others were not trained on
    assert (place / "quality_speed.png").exists()
    assert f"pytorch/examples ends at {theirs[1][1]:.1f} after {theirs[1][0]:.0f} s" in printed


@pytest.mark.parametrize(
    "name", ["align_faces.py", "data_speed.py", "recipe_study.py", "unseen_faces.py"]
)
def test_a_missing_folder_is_one_sentence(name, tmp_path):
    ended = run_script(f"benchmarks/{name}", "--data-dir", "missing", cwd=tmp_path)
    assert ended.returncode == 2
    assert (
        ended.stderr
        == f"{name}: data_dir missing does not exist; name a folder or .zip of images.\n"
    )


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


def test_face_distance(tmp_path, monkeypatch):
    """Its net finds out what the attributes mean; the distance is Frechet's."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import face_distance

    folder = save_images(tmp_path / "faces", 200, size=(64, 64))
    attributes = write_attributes(tmp_path / "attributes.txt", folder)
    images = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    halves = np.split(np.arange(120, 200), 2)
    place = tmp_path / "nets"
    distance = face_distance.make_distance(attributes, folder, images, halves, place)
    real, others = (images[half] for half in halves)
    logits = distance.net[-1](torch.tensor(face_distance.features(distance.net, others)).float())
    told = logits.detach().numpy() > 0
    _, known = face_distance.read_attributes(attributes, sorted(folder.iterdir()))
    assert (told == known[halves[1]]).mean() > 0.8

    assert distance(real) == pytest.approx(0, abs=1e-3)
    assert distance(others) < distance(255 - others // 4)
    again = face_distance.make_distance(attributes, folder, images, halves, place)
    assert again(others) == distance(others) and len(list(place.iterdir())) == 1
    halves[0] = halves[0][:-1]  # other images to know, another net
    face_distance.make_distance(attributes, folder, images, halves, place)
    assert len(list(place.iterdir())) == 2

    random = np.random.default_rng(1)
    one, mixing = random.normal(size=(500, 4)), random.normal(size=(4, 4))
    other = random.normal(2, 3, (400, 4)) @ mixing
    values, axes = np.linalg.eigh(np.cov(one.T))  # the root taken another way
    half = axes * values**0.5 @ axes.T
    root = np.linalg.eigvalsh(half @ np.cov(other.T) @ half) ** 0.5
    means = ((one.mean(0) - other.mean(0)) ** 2).sum()
    expected = means + np.trace(np.cov(one.T) + np.cov(other.T)) - 2 * root.sum()
    assert face_distance.frechet(one, other) == pytest.approx(expected)


def test_recipe_study(tmp_path):
    folder = save_images(tmp_path / "faces", 34)
    sizes = "--max-images 16 --num-img 9 --num-epochs 1 --width 4 --seeds 2"
    arguments = ["--data-dir", folder, *sizes.split(), "--only", "batch 8,default"]
    arguments += ["--attributes", write_attributes(tmp_path / "attributes.txt", folder)]
    table, _ = run_benchmark("recipe_study.py", *arguments, cwd=tmp_path)
    figures = {recipe: len(row) for recipe, row in table.items()}
    assert figures == {"batch 8": 6, "default": 6, "other real images": 3}
    assert table["batch 8"] != table["default"]
    assert table["default"][:3] != table["default"][3:]  # its average
    runs = {
        path.parent.parent.name for path in tmp_path.glob("study/*/run1/checkpoint_0_epoch.pkl")
    }
    assert runs == {f"{recipe}_seed_{seed}" for recipe in ("batch_8", "default") for seed in (1, 2)}
    assert (tmp_path / "study/study.png").exists()


def test_unseen_faces(tmp_path):
    folder = save_images(tmp_path / "faces", 60)
    torch.manual_seed(1)
    net = {"g_model_state_dict": Generator(8, 4).state_dict()}
    torch.save(net, tmp_path / "net.pkl")
    attributes = write_attributes(tmp_path / "attributes.txt", folder)
    arguments = ["--data-dir", folder, "--attributes-file", attributes]
    sizes = ["--max-images", "40", "--num-img", "30", "--seeds", "2"]
    named = ["--path-checkpoint", "net.pkl"]
    table, printed = run_benchmark("unseen_faces.py", *arguments, *named, *sizes, cwd=tmp_path)
    assert list(table) == ["images of the training", "net.pkl"]
    assert table["net.pkl"][0] > 2 * table["images of the training"][0]
    assert table["net.pkl"][2] > 2 * table["images of the training"][2]
    assert "; 20 images that were not trained on, 30 drawn, 2 seeds" in printed
    few = [*arguments, *named, "--max-images", "10", "--num-img", "30", "--seeds", "1"]
    table, _ = run_benchmark("unseen_faces.py", *few, cwd=tmp_path)  # fewer of them than are drawn
    assert table["net.pkl"][0] > 1.3 * table["images of the training"][0]

    net = {"g_model_state_dict": Generator(8, 4, 1).state_dict()}
    torch.save(net, tmp_path / "grey.pkl")
    wrong = {
        "--max-images 53": "has 60 images, 7 of them after the first max_images 53; 8 or more are needed.",
        "--max-images 20 --path-checkpoint grey.pkl": "grey.pkl draws 64 x 64 pixels of 1 channels; only "
        "64 x 64 of 3 are compared.",
    }
    for flags, sentence in wrong.items():
        flags = [*arguments, *named, *flags.split(), "--device", "cpu"]
        ended = run_script("benchmarks/unseen_faces.py", *flags, cwd=tmp_path)
        assert ended.returncode == 2 and ended.stderr.endswith(f"{sentence}\n")
