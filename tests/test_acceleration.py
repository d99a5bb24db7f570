"""What makes training fast must not change what is trained."""

import contextlib
import copy
import json
import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT

from common_tools import RunError, choose_device
from dcgan import Discriminator, Generator
from gan_demo import Config, train, train_step
from machinery import constants, processes
from machinery.acceleration import CapturedStep, fused_adam, load_optimizer
from machinery.checkpoints import load_checkpoint, newest_checkpoint
from machinery.run import Run, seed_iteration

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")


def test_fused_adam_takes_the_steps_of_plain_adam_under_a_schedule():
    torch.manual_seed(0)
    net = Generator(nz=4, ngf=4, image_size=32).double().to(memory_format=torch.channels_last)
    plain = Generator(nz=4, ngf=4, image_size=32).double()
    plain.load_state_dict(net.state_dict())
    optimizers = [
        fused_adam(net, lr=0.01, beta1=0.5),
        torch.optim.Adam(plain.parameters(), lr=0.01, betas=(0.5, 0.999)),
    ]
    schedulers = [torch.optim.lr_scheduler.StepLR(each, 2, gamma=0.1) for each in optimizers]
    for _ in range(6):
        noise = torch.randn(3, 4, 1, 1, dtype=torch.float64)
        for each, optimizer, scheduler in zip((net, plain), optimizers, schedulers):
            optimizer.zero_grad()
            each(noise).square().mean().backward()
            optimizer.step()
            scheduler.step()
    for ours, theirs in zip(net.parameters(), plain.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_saved_optimizer_goes_on_in_another_layout(memory_format):
    """As from a CPU to a GPU, or from a run that knew no channels_last."""
    torch.manual_seed(0)
    net = Discriminator(ndf=4, image_size=32).double().to(memory_format=memory_format)
    images = torch.randn(6, 3, 32, 32, dtype=torch.float64)

    def step(net, optimizer):
        optimizer.zero_grad()
        net(images, logits=True).square().mean().backward()
        optimizer.step()

    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, betas=(0.5, 0.999))
    step(net, optimizer)
    other = Discriminator(ndf=4, image_size=32).double().to(memory_format=torch.channels_last)
    other.load_state_dict(net.state_dict())
    resumed = fused_adam(other, lr=0.01, beta1=0.9)
    optimizer.param_groups[0]["lr"] = 0.003  # as a scheduler may have left it
    load_optimizer(resumed, copy.deepcopy(optimizer.state_dict()))
    (group,) = resumed.param_groups
    assert group["fused"] and torch.is_tensor(group["lr"])
    step(net, optimizer)
    step(other, resumed)
    for ours, theirs in zip(other.parameters(), net.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)
    with pytest.raises(KeyError):
        load_optimizer(resumed, {})


def test_random_numbers_of_an_iteration_depend_on_nothing_before_it():
    def draw(*place):
        seed_iteration(*place)
        return random.random(), np.random.rand(), torch.rand(1).item()

    places = [(seed, step, rank) for seed in (1, 2) for step in (0, 1) for rank in (0, 1)]
    drawn = {place: draw(*place) for place in places}
    for kind in zip(*drawn.values()):
        assert len(set(kind)) == len(places)
    assert draw(1, 1, 0) == drawn[1, 1, 0] == draw(1, 1)


# --- one CUDA graph


class FakeGraph:
    """Stands in for a CUDA graph; what replaying it computes is set by the test."""

    resets = 0

    def reset(self):
        FakeGraph.resets += 1


class FakeGenerator:
    """Stands in for a GPU's generator that a failed recording leaves without random numbers."""

    device = torch.device("cpu")

    def __init__(self):
        self.states = []

    def initial_seed(self):
        return 7

    def graphsafe_set_state(self, state):
        self.states.append(state.initial_seed())


@pytest.fixture
def fake_cuda(monkeypatch):
    """torch.cuda's names for streams and graphs, doing nothing."""

    class Stream:
        def wait_stream(self, _):
            pass

    stream = Stream()
    for name, value in {
        "Stream": Stream,
        "current_stream": lambda: stream,
        "stream": lambda _: contextlib.nullcontext(),
        "CUDAGraph": FakeGraph,
        "default_generators": [FakeGenerator()],
        "current_device": lambda: 0,
        "graph": lambda *_, **__: contextlib.nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


def test_the_recorded_step_is_fed_with_each_batch_and_keeps_its_numbers(fake_cuda, monkeypatch):
    recorded = []

    def step(real, noise):
        recorded.append((real, noise))
        return real.sum() + noise.sum()

    def replay(_):  # like a graph: reads where the inputs lay, writes where the result lay
        real, noise = recorded[-1]
        captured.numbers.copy_(real.sum() + noise.sum())

    monkeypatch.setattr(FakeGraph, "replay", replay, raising=False)
    captured = CapturedStep(step)
    results = [captured(torch.full((2, 3), float(n)), torch.full([2], 0.5)) for n in range(8)]
    assert len(recorded) == CapturedStep.WARM_UP + 1  # from then on only the graph runs
    assert [float(result) for result in results] == [6.0 * number + 1 for number in range(8)]


def test_a_step_that_cannot_be_recorded_runs_as_it_is_and_says_why(fake_cuda, monkeypatch, capsys):
    class Graph:
        """Refuses what the step does, and then, as CUDA does, to end the recording."""

        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            self.recording.append(1)

        def __exit__(self, *_):
            self.recording.clear()
            raise RuntimeError("operation failed due to a previous error during capture")

    Graph.recording = recording = []

    def add(real, noise):
        if recording:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        return real + noise

    monkeypatch.setattr(torch.cuda, "graph", Graph)
    monkeypatch.setattr(FakeGraph, "resets", 0)
    step = CapturedStep(add)
    results = [float(step(torch.tensor(float(n)), torch.tensor(1.0))) for n in range(6)]
    assert results == [1, 2, 3, 4, 5, 6]
    (generator,) = torch.cuda.default_generators
    assert FakeGraph.resets == 1 and generator.states == [7]  # seeded as the old one was
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 1
    assert "operation not permitted when stream is capturing" in printed
    strict = CapturedStep(add, required=True)
    with pytest.raises(RuntimeError, match="previous error during capture"):
        for _ in range(6):
            strict(torch.tensor(0.0), torch.tensor(1.0))

    def rand(*_, **__):
        raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")

    monkeypatch.setattr(torch, "rand", rand)
    sentence = r"no CUDA graph can be recorded \(operation not permitted .* install a newer one"
    step = CapturedStep(add)
    with pytest.raises(RunError, match=sentence):
        for _ in range(6):
            step(torch.tensor(0.0), torch.tensor(1.0))


@NEEDS_CUDA
def test_after_a_failed_recording_training_goes_on_with_random_numbers(capsys):
    device = torch.device("cuda")
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 4).to(device)

    def step(real, noise):
        changed = net(real) + torch.rand(4, device=device) + noise
        assert changed.sum().item() > -1e9  # a look at the result: not allowed while recording
        return changed.detach()

    captured, held = CapturedStep(step), []
    for _ in range(8):
        captured(torch.ones(4, device=device), torch.zeros(4, device=device))
        held.append(torch.cuda.memory_allocated())
    assert "Going on without a CUDA graph" in capsys.readouterr().out
    assert captured.graph is None and held[-1] <= held[2]  # no memory of the failed graph
    drawn = [torch.rand(2, device=device) for _ in range(2)]
    assert not torch.equal(*drawn)


def course(device, captured=False, bf16=False, iterations=200):
    """Means of the five numbers over each 50 iterations; the learning rate is halved every 100.

    The nets are to draw blurred spots, each of a colour and in a place of its own.
    """
    torch.manual_seed(0)
    generator = Generator(nz=16, ngf=8, image_size=32)
    discriminator = Discriminator(ndf=8, image_size=32)
    for net in (generator, discriminator):
        net.initialize_weights()
        net.to(device, memory_format=torch.channels_last)
    optimizers = [fused_adam(net, 0.0002, 0.5) for net in (generator, discriminator)]
    schedulers = [torch.optim.lr_scheduler.StepLR(each, 100, 0.5) for each in optimizers]

    def step(real, noise):
        config = Config(bf16=bf16)
        return train_step(real, noise, generator, discriminator, *optimizers, config)

    step = CapturedStep(step, required=True) if captured else step
    axis, rows = torch.linspace(-1, 1, 32), []
    for iteration in range(iterations):
        seed_iteration(1, iteration)
        x, y, colour = torch.rand(3, 16, 3, 1, 1)
        distance = (axis - x[:, :1] + 0.5) ** 2 + (axis[:, None] - y[:, :1] + 0.5) ** 2
        spots = 2 * colour * torch.exp(-8 * distance) - 1
        noise = torch.randn(16, 16, 1, 1).to(device)
        rows.append(step(spots.to(device, memory_format=torch.channels_last), noise))
        for scheduler in schedulers:
            scheduler.step()
    rows = torch.stack(rows).cpu()
    assert not torch.equal(rows[:, :2], rows[:, :2].bfloat16().float())  # losses are not rounded
    return rows.unflatten(0, (-1, 50)).mean(1)


@NEEDS_CUDA
def test_captured_and_eager_agree_over_a_schedule(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    device = torch.device("cuda")
    torch.testing.assert_close(course(device, captured=True), course(device), rtol=0.01, atol=0.002)


@NEEDS_CUDA
def test_captured_bfloat16_takes_the_course_of_eager_float32():
    device = torch.device("cuda")
    torch.testing.assert_close(
        course(device, captured=True, bf16=True), course(device), rtol=0.1, atol=0.02
    )


def test_bfloat16_takes_the_course_of_float32(monkeypatch):
    def units_of(**capabilities):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    device = torch.device("cpu")
    units_of(avx512_bf16=False, avx512_f=True)
    assert torch.equal(course(device, bf16=True, iterations=50), course(device, iterations=50))
    units_of(bf16=True)  # as Arm calls it; without such units it is slower, but can be had
    half = course(device, bf16=True, iterations=100)
    full = course(device, iterations=100)
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.02)
    assert not torch.equal(half, full)


# --- several processes

# What each rank saw, computed and ended with. In the first attempt, process `rank` gets a signal.
RECORDER = """
import json, os, signal, sys
sys.path.insert(0, {root!r})
import torch
import gan_demo
rank, attempt = os.environ.get("RANK", "0"), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
train_step, seen, nets = gan_demo.train_step, [], []
def recording_step(real, noise, generator, discriminator, *rest):
    if [rank, attempt] == [{rank!r}, "0"] and len(seen) == {step}:
        os.kill(os.getpid(), {number})
    images = [round(value, 4) for value in real.mean(dim=(2, 3)).sum(dim=1).tolist()]
    state = torch.get_rng_state()
    next_number = torch.rand(1).item()  # what the changes of DiffAugment begin with
    torch.set_rng_state(state)
    numbers = train_step(real, noise, generator, discriminator, *rest)
    seen.append([images, [noise.sum().item(), next_number], numbers.tolist()])
    nets[:] = [generator, discriminator]
    return numbers
gan_demo.train_step = recording_step
destroy = torch.distributed.destroy_process_group
def recording_destroy():
    open(f"{name}-{{rank}}.left", "w").close()
    destroy()
torch.distributed.destroy_process_group = recording_destroy
try:
    gan_demo.run_as_script(gan_demo.main)
finally:
    weights = [value.double().sum().item() for net in nets for value in net.state_dict().values()]
    open(f"{name}-{{rank}}.json", "w").write(json.dumps([seen, weights]))
"""


@pytest.fixture
def launch(tmp_path, images):
    """Train in a job of two processes, or in one; gives its exit code and what each rank recorded."""

    def run(name, *flags, processes=2, rank="none", step=0, number=9, restarts=0):
        script = tmp_path / f"{name}.py"
        recorder = RECORDER.format(root=str(ROOT), name=name, rank=rank, step=step, number=number)
        script.write_text(recorder)
        command = [sys.executable]
        if processes > 1:
            torchrun = f"-m torch.distributed.run --standalone --nproc-per-node {processes}"
            command += [*torchrun.split(), "--max-restarts", str(restarts)]
        sizes = "--image-size 32 --nz 8 --ngf 8 --ndf 8 --batch-size 3 --num-epochs 2 --device cpu"
        if not flags:
            flags = ["--data-dir", str(images), *sizes.split()]
        ended = subprocess.run(
            [*command, script, *flags], cwd=tmp_path, capture_output=True, text=True, timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
        )  # fmt: skip
        records = [tmp_path / f"{name}-{number}.json" for number in range(processes)]
        return ended, [json.loads(path.read_text()) for path in records if path.exists()]

    return run


def test_two_processes_train_one_pair_of_nets_and_a_killed_job_goes_on(launch, tmp_path):
    ended, ((seen, weights), (other_seen, other_weights)) = launch("whole")
    assert ended.returncode == 0, ended.stderr
    whole = (tmp_path / "log_gan/run1").rename(tmp_path / "whole")
    assert weights == other_weights
    assert len(seen) == len(other_seen) == 2 * (26 // 6)
    metrics = np.loadtxt(whole / "metrics.csv", delimiter=",", skiprows=1)[:, 2:]
    for (images, noise, numbers), (other_images, other_noise, other_numbers), row in zip(
        seen, other_seen, metrics, strict=True
    ):
        assert not set(noise) & set(other_noise) and not set(images) & set(other_images)
        np.testing.assert_allclose(row, np.mean([numbers, other_numbers], axis=0), rtol=1e-4)
    for epoch in (slice(0, 4), slice(4, 8)):
        images = [i for images, *_ in seen[epoch] + other_seen[epoch] for i in images]
        assert len(images) == len(set(images)) == 24

    # In the second epoch a process is killed, torchrun starts the job again: the end is the same.
    ended, records = launch("killed", rank="1", step=6, number=9, restarts=1)
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in (tmp_path / "log_gan").iterdir()] == ["run1"]
    assert (tmp_path / "log_gan/run1/metrics.csv").read_bytes() == (
        whole / "metrics.csv"
    ).read_bytes()
    assert records[0][1] == records[1][1] == weights
    ours = newest_checkpoint(tmp_path / "log_gan/run1")[1]["g_model_state_dict"]
    theirs = newest_checkpoint(whole)[1]["g_model_state_dict"]
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_job_stopped_in_an_epoch_goes_on_with_one_process(launch, tmp_path):
    ended, (first, second) = launch("stopped", rank="1", step=1, number=15)
    assert ended.returncode != 0
    assert ended.stdout.count("Stopped after 2 iterations") == 1  # one process speaks for all
    assert len(list(tmp_path.glob("stopped-?.left"))) == 2  # and both leave the group in order
    run = tmp_path / "log_gan/run1"
    assert [path.name for path in run.glob("*.pkl")] == ["checkpoint_interrupted.pkl"]
    assert load_checkpoint(run / "checkpoint_interrupted.pkl")["place"] == (0, 2, 12)
    ended, (alone,) = launch("alone", "--resume", "latest", processes=1)
    assert ended.returncode == 0, ended.stderr
    of_epoch = [first[0], second[0], alone[0][: (26 - 12) // 3]]
    images = Counter(image for seen in of_epoch for images, *_ in seen for image in images)
    assert len(images) == sum(images.values()) == 24
    rows = (run / "metrics.csv").read_text().splitlines()[1:]
    places = [tuple(map(int, row.split(",")[:2])) for row in rows]
    assert places == [*((0, i) for i in range(6)), *((1, i) for i in range(8))]


def test_a_job_uses_neither_mps_nor_another_ones_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    zero = torch.zeros(1)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: zero)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(processes, "in_job", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(RunError, match="device mps cannot be used by several processes"):
        choose_device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:3")


def test_a_lone_local_rank_makes_no_job(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")  # some launchers set it
    monkeypatch.delenv("RANK", raising=False)
    with processes.joined_processes() as own_run:
        assert not own_run and not processes.in_job()


def test_the_losses_are_looked_at_rarely_where_a_look_makes_the_device_wait(tmp_path):
    for device, interval in [("cpu", 1), ("mps", 50), ("cuda", 50)]:
        data = SimpleNamespace(
            device=torch.device(device), count=9, total=3, unit="images", source="", fingerprint=0
        )
        config = Config(out_dir=str(tmp_path))
        assert Run(config, {}, {}, data).log_interval == interval
        assert Run(replace(config, log_interval=7), {}, {}, data).log_interval == 7


def test_a_mistake_is_said_once_and_not_tried_again(launch, tmp_path):
    ended, _ = launch("mistaken", "--data-dir", "missing", restarts=2)
    assert ended.returncode != 0
    assert ended.stderr.count("data_dir missing does not exist; name a folder or .zip") == 1
    assert "lost each other" not in ended.stderr and "SIGABRT" not in ended.stderr
    ended, _ = launch("help", "--help", restarts=2)
    assert ended.returncode == 0 and ended.stdout.count("--num-epochs INT") == 1

    # A mistake that one process alone notices is said by it, not by those that lose it.
    script = tmp_path / "alone.py"
    script.write_text(ALONE.format(root=str(ROOT)))
    torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2 --max-restarts 2"
    command = [sys.executable, *torchrun.split(), script]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode != 0 and "lost each other" not in ended.stderr
    assert ended.stderr.count("alone.py: only here") == 1


ALONE = """
import sys
sys.path.insert(0, {root!r})
from common_tools import RunError, run_as_script
from machinery.processes import get_rank, joined_processes, largest
def main():
    with joined_processes():
        if get_rank() == 1:
            raise RunError("only here")
        largest(0)
run_as_script(main)
"""


def test_a_restarted_job_goes_on_with_its_own_run_only(tiny, monkeypatch):
    older, own = train(tiny(num_epochs=1)), train(tiny(num_epochs=1))
    monkeypatch.setattr(sys, "argv", ["gan_demo.py", "--out-dir", str(own.parent)])
    assert constants.config_from_flags(Config, own_run=str(own)).resume == str(own)
    (own / "checkpoint_0_epoch.pkl").unlink()  # killed before its first one: not on with another
    assert constants.config_from_flags(Config, own_run=str(own)).resume == ""
    assert older.exists() and constants.config_from_flags(Config).resume == ""
    newer = train(tiny(num_epochs=1))
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--resume", "latest"])  # as it was started
    assert constants.config_from_flags(Config).resume == str(newer)
    assert constants.config_from_flags(Config, own_run=str(older)).resume == str(older)
