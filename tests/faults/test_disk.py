"""A disk that is full or read-only: one sentence, nothing lost, and the run goes on afterwards."""

import os
import re
import threading
from contextlib import contextmanager, nullcontext

import pytest
from conftest import assert_same_run

from machinery import files, metrics, run
from machinery.checkpoints import load_checkpoint

WRITTEN = {
    "the packed images": ".npy",
    "the picture of real images": "real.png",
    "the constants": "config.json",
    "the numbers": "metrics.csv",
    "a picture": "epoch_002.png",
    "a checkpoint": "checkpoint_2_epoch.pkl",
    "the curves": "loss.png",
    "the animation": ".gif",
}


def fail_at(ending, spoil):
    """In the process of the run: make the disk unusable once a file of this name is to be written.

    Its threads write one after the other there, so that this file is the first to fail.
    """
    writing, one_at_a_time = files.writing, threading.RLock()

    @contextmanager
    def spoiling(path):
        with one_at_a_time:
            if str(path).endswith(ending):
                spoil()
            with writing(path):
                yield

    files.writing = metrics.writing = spoiling
    run.locked = nullcontext  # as long as a file is open, the disk cannot become read-only


@pytest.mark.parametrize("name", WRITTEN)
def test_a_disk_without_space(start, finish, untouched, disk, name):
    folder, ending = disk.path / "run", WRITTEN[name]
    process = start(folder, fail_at, (ending, disk.fill))
    process.join()
    disk.free()
    # under a limit on size, a file that is written on the side may be the first to fail
    named, reason = (ending, "No space left on device") if disk.mounted else ("", "File too large")
    assert_stopped_by(process, rf".*{named} could not be written \({reason}\).*", folder)
    assert_same_run(finish(folder)[0], untouched)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_disk_that_is_read_only(start, finish, untouched, disk, name):
    disk.make_read_only()
    if os.access(disk.path, os.W_OK):
        pytest.skip("this user writes where permissions forbid it, and nothing may be mounted here")
    disk.make_writable()
    folder, ending = disk.path / "run", WRITTEN[name]
    process = start(folder, fail_at, (ending, disk.make_read_only))
    process.join()
    disk.make_writable()
    reason = "Read-only file system" if disk.mounted else "Permission denied"
    # the first file to fail may be another one of the same epoch, or the folder
    assert_stopped_by(process, rf".* could not be written \({reason}\).*", folder)
    assert_same_run(finish(folder)[0], untouched)


def assert_stopped_by(process, sentence, folder):
    """It ended with one such sentence, left no piece of a file, and its checkpoints open."""
    error = process.stderr.read_text()
    assert process.exitcode == 2 and re.fullmatch(sentence + r"\n", error), error
    assert not list(folder.glob("**/*.partial"))
    for checkpoint in folder.glob("log_gan/run1/*.pkl"):
        load_checkpoint(checkpoint)
