import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common_tools import run_as_script
from gan_demo import Config, train
from machinery.checkpoints import newest_checkpoint, save_checkpoint

ROOT = Path(__file__).parent.parent
# What makes a run draw random numbers and keep more than its nets, so what resuming must restore.
RANDOM = {"horizontal_flip": True, "diffaugment": "color,cutout,shift", "ema_decay": 0.999}

torch.set_num_threads(1)  # the same sums in the same order, however many cores there are


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the long version of tests/faults")


def save_images(folder, count, size=(40, 48), suffix=".png"):
    """Write `count` small pictures of random colours into a folder, each from its own seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size).save(folder / f"{number:03d}{suffix}")
    return folder


def save_weights(checkpoint, path):
    """save_checkpoint into a folder that may be missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(checkpoint, path)


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A folder of 26 images: three batches of 8 and a short one."""
    return save_images(tmp_path_factory.mktemp("images"), 26)


@pytest.fixture
def tiny(images, tmp_path):
    """A function that gives the Config of a run of seconds; keywords change it."""

    def make(**changes):
        settings = {
            "data_dir": str(images),
            "out_dir": str(tmp_path / "log"),
            "image_size": 32,
            "nz": 8,
            "ngf": 8,
            "ndf": 8,
            "num_epochs": 2,
            "batch_size": 8,
            "cache_dir": str(tmp_path / "cache"),
            "device": "cpu",
        }
        return Config(**settings | changes)

    return make


@pytest.fixture(scope="session")
def finished_run(images, tmp_path_factory):
    """The folder of a run of three epochs that nothing interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    places = {"data_dir": str(images), "out_dir": str(folder), "cache_dir": str(folder / "cache")}
    sizes = {"image_size": 32, "nz": 8, "ngf": 8, "ndf": 8, "batch_size": 8, "device": "cpu"}
    return train(Config(num_epochs=3, log_interval=2, **places, **sizes, **RANDOM))


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Run a script's main() in an empty folder, here, with flags; gives (exit code, stderr)."""

    def run(main, *arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["script.py", *map(str, arguments)])
        try:
            run_as_script(main)
        except SystemExit as ended:
            return ended.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


def run_script(script, *arguments, cwd, **options):
    """Run a script in a process of its own, as its user would; returns the finished process."""
    command = [sys.executable, ROOT / script, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False, **options
    )


def states(run):
    """All that the newest checkpoint of a run holds, as one flat list of comparable values."""

    def flatten(value):
        if isinstance(value, dict):
            return [leaf for key in value for leaf in [key, *flatten(value[key])]]
        if isinstance(value, (list, tuple)):
            return [leaf for item in value for leaf in flatten(item)]
        return [value.tolist() if torch.is_tensor(value) else value]

    return flatten(newest_checkpoint(run)[1])


def assert_same_run(run, other):
    """Same final states, metrics and pictures, bit for bit."""
    assert states(run) == states(other)
    pictures = [path.name for path in sorted(run.glob("epoch_*.png"))]
    for name in ["metrics.csv", "real.png", "loss.png", "generation_animation.gif", *pictures]:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
