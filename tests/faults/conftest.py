"""Faults made on purpose. All tests include the short version; the long one is

python -m pytest tests/faults --long -s
"""

import multiprocessing
import multiprocessing.forkserver
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT

if sys.platform == "win32":  # no signals to kill with, no limits to set
    collect_ignore_glob = ["*"]
else:
    import resource

    import gan_demo
    from common_tools import run_as_script
    from drawings.faces import draw_faces

    processes = multiprocessing.get_context("forkserver")  # a run starts without seconds of imports
    processes.set_forkserver_preload(["pytest", "gan_demo", "matplotlib.figure", "torch._dynamo"])

FLAGS = "--data-dir faces.zip --image-size 32 --nz 8 --ngf 8 --ndf 8 --batch-size 8 --num-epochs 4"
FLAGS += " --log-interval 2 --device cpu"


@pytest.fixture
def long(request):
    return request.config.getoption("--long")


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """A zip of 60 drawn faces: seven batches of 8 and a short one."""
    path = tmp_path_factory.mktemp("faces") / "faces.zip"
    draw_faces(path, 60)
    return path


def run_main(folder, output, flags, prepare, arguments):
    """What a process of `start` does: gan_demo.py with these flags, in this folder."""
    os.chdir(folder)
    for number, path in enumerate(output, 1):  # not in the folder: its disk may be full
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    torch.set_num_threads(1)
    sys.argv = ["gan_demo.py", *flags.split()]
    if prepare:
        prepare(*arguments)
    run_as_script(gan_demo.main)


@pytest.fixture(scope="session")
def start(faces, tmp_path_factory):
    """Begin a run of the faces in a folder, or go on with its newest one; gives the process.

    prepare(*arguments) is called in the process beforehand. What it prints goes into the files
    `stdout` and `stderr` of the process.
    """
    started = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        multiprocessing.forkserver.ensure_running()

    def start(folder, prepare=None, arguments=()):
        folder.mkdir(exist_ok=True)
        shutil.copy2(faces, folder)
        begun = any(folder.glob("log_gan/run*/*.pkl"))
        output = [tmp_path_factory.mktemp("output") / name for name in ("stdout", "stderr")]
        flags = "--resume latest" if begun else FLAGS
        arguments = folder, output, flags, prepare, arguments
        process = processes.Process(target=run_main, args=arguments)
        process.stdout, process.stderr = output
        process.start()
        started.append(process)
        while process.is_alive() and not process.stderr.exists():
            time.sleep(0.001)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="session")
def finish(start):
    """Let a folder's run end, without faults; gives the run and what it printed."""

    def finish(folder):
        process = start(folder)
        process.join()
        assert process.exitcode == 0, process.stderr.read_text()
        return newest_run(folder), process.stdout.read_text()

    return finish


def newest_run(folder):
    return max((folder / "log_gan").iterdir(), key=lambda run: int(run.name.removeprefix("run")))


@pytest.fixture(scope="session")
def untouched(finish, tmp_path_factory):
    """The same run, which nothing has happened to."""
    return finish(tmp_path_factory.mktemp("untouched") / "run")[0]


class Disk:
    """A folder that can be made to take no more, in the process that writes to it.

    It is a small file system of its own where one may be mounted. Elsewhere files of the process
    are limited in size, and the folder loses its permissions.
    """

    def __init__(self, path):
        self.path = path
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", path]
        self.mounted = not subprocess.run(mount, capture_output=True, check=False).returncode

    def fill(self):
        if not self.mounted:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what it prints is in a file, too
            resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))  # bytes
            return
        with open(self.path / "ballast", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def make_read_only(self):
        if self.mounted:
            subprocess.run(["mount", "-o", "remount,ro", self.path], check=True)
        for folder in [] if self.mounted else [self.path, *self.path.glob("**/")]:
            folder.chmod(0o555)

    def free(self):
        (self.path / "ballast").unlink(missing_ok=True)

    def make_writable(self):
        if self.mounted:
            subprocess.run(["mount", "-o", "remount,rw", self.path], check=True)
        for folder in [] if self.mounted else [self.path, *self.path.glob("**/")]:
            folder.chmod(0o755)


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "disk")
    yield disk
    if disk.mounted:
        subprocess.run(["umount", "--lazy", disk.path], check=True)
