"""A second training on the same Run: what it does not say a line about must hold for it, too."""

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT, states
from PIL import Image

from examples import ring
from examples.ring import Config, modes, train
from machinery.checkpoints import load_checkpoint
from machinery.constants import saved_config


@pytest.fixture
def small(tmp_path):
    options = {"points": 1024, "batch_size": 128, "width": 16, "num_epochs": 3, "device": "cpu"}
    return Config(out_dir=str(tmp_path / "runs"), **options)


def test_it_learns_all_eight_gaussians(tmp_path):
    config = Config(out_dir=str(tmp_path / "runs"), num_epochs=15, checkpoint_interval=15)
    run = train(replace(config, device="cpu"))
    generator = ring.mlp(config.nz, config.width, 2)
    weights = load_checkpoint(run / "checkpoint_14_epoch.pkl")["g_model_state_dict"]
    generator.load_state_dict(weights)
    points = generator(torch.randn(4000, config.nz, generator=torch.Generator().manual_seed(5)))
    assert modes(points.detach()) == 8
    assert modes(ring.CENTRES[:3].repeat(40, 1)) == 3 and modes(torch.zeros(100, 2)) == 0
    picture = np.asarray(Image.open(run / "epoch_014.png"))
    assert picture.shape == (400, 400, 3) and picture.std() > 10
    assert Image.open(run / "generation_animation.gif").n_frames == 15


@pytest.mark.parametrize("kill_after", [9, 16, 20])  # iterations; an epoch has eight
def test_killed_it_goes_on_to_the_same_end(small, monkeypatch, kill_after):
    class Killed(BaseException):
        pass

    whole, step, steps = train(small), ring.train_step, itertools.count(1)

    def killing_step(*arguments):
        if next(steps) > kill_after:
            raise Killed
        return step(*arguments)

    monkeypatch.setattr(ring, "train_step", killing_step)
    with pytest.raises(Killed):
        train(small)
    monkeypatch.undo()
    resumed = train(saved_config(Config, "latest", small.out_dir))
    assert resumed.name == "run2" and states(resumed) == states(whole)
    for name in ("metrics.csv", "loss.png", "epoch_002.png", "generation_animation.gif"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals to send")
def test_a_signal_saves_and_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "examples.ring", "--out-dir", tmp_path, "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run1/metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert f"Go on with: python -m examples.ring --resume {tmp_path}/run1" in printed
    assert list((tmp_path / "run1").glob("*.pkl"))


def test_two_processes_learn_it_together(tmp_path):
    torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2 -m examples.ring"
    flags = f"--points 1024 --batch-size 64 --num-epochs 2 --device cpu --out-dir {tmp_path}"
    ended = subprocess.run(
        [sys.executable, *torchrun.split(), *flags.split()], cwd=ROOT, capture_output=True,
        text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Done.") == 1
    assert len((tmp_path / "run1/metrics.csv").read_text().splitlines()) == 1 + 2 * 1024 // 128
