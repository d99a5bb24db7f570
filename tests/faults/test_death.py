"""Death at any moment: a run that is killed again and again ends as one that nothing happened to."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT, assert_same_run

from faults.conftest import FLAGS, newest_run

# A kill comes once there is such a file, or at a random time.
MOMENTS = {
    "packing": "cache/*.npy.*.partial",
    "config.json": "config.json.*.partial",
    "a picture": "epoch_*.png.*.partial",
    "a checkpoint": "checkpoint_*.partial",
    "any time": None,
    "the curves": "loss.png.*.partial",
    "the animation": "*.gif.*.partial",
}


def wait_for(moment, folder, process, seconds):
    """Until this moment in the life of the process, or its end; whether the moment came."""
    end = time.monotonic() + random.uniform(0, seconds)
    while process.is_alive():
        if MOMENTS[moment] is None and time.monotonic() > end:
            return True
        if MOMENTS[moment] and any(folder.glob(f"**/{MOMENTS[moment]}")):
            time.sleep(random.uniform(0, 0.002))
            return True
        time.sleep(0.0005)
    return False


def interrupt_until_done(start, folder, number, moments, seconds):
    """Start, send the signal, go on, ... until the run is done; takes from moments what it used."""
    used = []
    while True:
        process, came = start(folder), False
        if moments:
            came = wait_for(moments[0], folder, process, seconds)
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:  # it was done before
                pass
        process.join()
        error = process.stderr.read_text()
        assert process.exitcode in (0, -number, 128 + number) and "Traceback" not in error, error
        done = process.exitcode == 0  # a signal, unlike a kill, may come while it ends anyway
        if came and (not done or number != signal.SIGKILL):
            used.append(moments.pop(0))
        if done:
            return used


@pytest.mark.parametrize(
    ("number", "short", "many"),
    [(signal.SIGKILL, 2, 30), (signal.SIGTERM, 1, 8), (signal.SIGINT, 1, 8)],
    ids=["SIGKILL", "SIGTERM", "Ctrl-C"],
)
def test_an_interrupted_run_ends_like_any_other(
    start, finish, untouched, tmp_path, long, number, short, many
):
    random.seed(number)
    begun = time.monotonic()
    finish(tmp_path / "seconds")
    seconds = time.monotonic() - begun
    moments = list(MOMENTS) * (many if long else short)
    survived, folders = Counter(), 0
    while moments:
        folders += 1
        folder = tmp_path / f"interrupted{folders}"
        survived.update(interrupt_until_done(start, folder, number, moments, seconds))
        run = newest_run(folder)
        assert_same_run(run, untouched)
        assert not list(run.glob("*.partial")) + list(run.glob("*interrupted*"))
        assert folders < 20 * many
    print(f"\n{survived.total()} times {signal.Signals(number).name} in {folders} runs: {survived}")


def test_a_job_of_two_processes_that_die_again_and_again(faces, tmp_path, long):
    if not long:
        pytest.skip("tests/test_acceleration.py kills one of two processes once")
    if not Path("/proc").exists():
        pytest.skip("the processes of torchrun are found in /proc")
    random.seed(1)
    runs, deaths = [], 8
    for kills in (0, deaths):
        folder = tmp_path / f"{kills} kills"
        folder.mkdir()
        shutil.copy2(faces, folder)
        torchrun = (
            f"-m torch.distributed.run --standalone --nproc-per-node 2 --max-restarts {kills}"
        )
        command = [sys.executable, *torchrun.split(), ROOT / "gan_demo.py", *FLAGS.split()]
        job = subprocess.Popen([*command, "--num-epochs", "300"], cwd=folder)
        children = Path(f"/proc/{job.pid}/task/{job.pid}/children")
        while kills and job.poll() is None:
            time.sleep(random.uniform(5, 20))
            if processes := children.read_text().split():
                os.kill(int(random.choice(processes)), signal.SIGKILL)
                kills -= 1
        assert job.wait() == 0
        runs.append(newest_run(folder))
    assert_same_run(*runs)
    print(f"\n{deaths} times a process of two was killed")


LARGE_RESULTS = """
import os, time
from functools import partial
import numpy as np
from machinery.processes import map_in_processes
os.cpu_count = lambda: 2
for _ in map_in_processes(partial(np.full, 2**18), range(64), 1):
    print("a first one", flush=True)
    time.sleep(60)
"""


def test_worker_processes_end_with_a_killed_parent():
    """Even if they have more to hand over than fits into a pipe."""
    command = [sys.executable, "-c", LARGE_RESULTS]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        time.sleep(0.5)  # their results wait to be read
        process.kill()
        process.communicate(timeout=15)  # the output ends once no process has it open any more
