"""What a run owes its user beside the training: one at a time, from anywhere, in any surroundings."""

import json
import os
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RANDOM, ROOT, assert_same_run, run_script, save_images, states
from matplotlib.axes import Axes
from tqdm import tqdm

import gan_demo
import gan_inference
from common_tools import RunError
from gan_demo import saved_config, train
from gan_inference import sample
from machinery import files
from machinery.console import command, command_of, progress_bar
from machinery.files import new_folder
from machinery.run import Run

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
FLAGS = [
    "--image-size",
    "32",
    "--nz",
    "8",
    "--ngf",
    "8",
    "--ndf",
    "8",
    "--batch-size",
    "4",
    "--device",
    "cpu",
    "--num-epochs",
]


def started(folder, *arguments, **options):
    """gan_demo.py in a process of its own, once it has written its first numbers."""
    command = [sys.executable, ROOT / "gan_demo.py", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environment, text=True, **options)
    deadline = time.monotonic() + 90
    while not (folder / "log_gan/run1/metrics.csv").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    return process


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path):
    images = save_images(tmp_path / "images", 60)
    process = started(tmp_path, "--data-dir", images, *FLAGS, 500)
    again = run_script("gan_demo.py", "--resume", "log_gan/run1", cwd=tmp_path)
    rows = (tmp_path / "log_gan/run1/metrics.csv").read_text().splitlines()
    assert again.returncode == 2 and again.stderr == (
        "gan_demo.py: log_gan/run1 is in use: another process trains it; wait for its end or start "
        "a new run.\n"
    )
    assert process.poll() is None
    process.kill()  # which leaves no lock behind
    process.wait()
    epochs = len(rows) // 15 + 3
    ended = run_script("gan_demo.py", "--resume", "latest", "--num-epochs", epochs, cwd=tmp_path)
    done = "num_epochs is" in ended.stderr  # it was further, after all
    assert done or ended.returncode == 0, ended.stderr
    places = (tmp_path / "log_gan/run1/metrics.csv").read_text().splitlines()[1:]
    assert len(places) == len({place.rsplit(",", 5)[0] for place in places})


def test_a_run_is_free_again_after_an_error(tiny, monkeypatch):
    config = tiny(num_epochs=1)
    run = train(config)
    longer = replace(saved_config(str(run)), num_epochs=2)
    step = gan_demo.train_step
    monkeypatch.setattr(gan_demo, "train_step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as held:  # with its traceback, as a notebook keeps it
        train(longer)
    monkeypatch.setattr(gan_demo, "train_step", step)
    assert train(longer) == run and held


@pytest.mark.parametrize("name", ["the same", "moved"])
def test_a_run_goes_on_from_elsewhere_and_with_moved_images(
    tiny, finished_run, tmp_path, monkeypatch, name
):
    images = shutil.copytree(saved_config(str(finished_run)).data_dir, tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    config = tiny(data_dir="images", out_dir="log", num_epochs=1, log_interval=2, **RANDOM)
    run = train(config).absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = replace(saved_config(str(run)), num_epochs=3)
    assert config.data_dir == str(images)
    if name == "moved":
        images.rename(tmp_path / "elsewhere/other")
        config = replace(config, data_dir="other/")
    assert_same_run(train(config), finished_run)
    assert saved_config(str(run)).data_dir == str(
        tmp_path / ("elsewhere/other" if name == "moved" else "images")
    )


def test_the_newest_run_is_the_newest_that_has_a_checkpoint(tiny):
    run = train(tiny(num_epochs=1))
    (run.parent / "run2").mkdir()  # it died in its first epoch
    shutil.copy(run / "config.json", run.parent / "run2")
    (run.parent / "run50").write_text("no folder at all")
    assert train(replace(saved_config("latest", run.parent), num_epochs=2)) == run
    assert train(tiny(num_epochs=1)).name == "run51"


def test_a_run_with_a_constant_that_the_script_lacks_does_not_go_on(tiny):
    """As one that was renamed in the script: it would go on with another value."""
    run = train(tiny(num_epochs=1))
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace("match_contrast", "contrast_weight"))
    with pytest.raises(RunError, match="of another script, for this one has no contrast_weight"):
        saved_config(str(run))


@pytest.mark.parametrize("text", ['{"batch_size": "5"}', '{"lr": null}', '{"nz": 8.0}', "[1]", "{"])
def test_a_config_that_was_edited_wrongly_is_named(tiny, text):
    run = train(tiny(num_epochs=1))
    path = run / "config.json"
    edited = json.loads(text) if text != "{" else {}
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | edited) if isinstance(edited, dict) and edited else text)
    with pytest.raises(RunError, match=f"^{run} is no run to go on with: its config.json cannot"):
        saved_config(str(run))


def test_in_a_notebook_a_path_may_be_a_path(tiny, images):
    run = train(tiny(data_dir=images, num_epochs=1))
    again = train(tiny(init_from=run, num_epochs=1, ema_decay=0))
    (picture,) = sample(gan_inference.Config(path_checkpoint=again, out_dir=again / "samples"))
    assert picture.exists()
    for value in ("3", 2.5, True):
        with pytest.raises(RunError, match=f"walk is {value!r}; it must be a whole number"):
            sample(gan_inference.Config(path_checkpoint=again, walk=value))


def test_numbers_may_be_numpys(tiny):
    run = train(tiny(num_epochs=np.int64(1), lr=np.float32(1e-4), horizontal_flip=np.bool_(True)))
    saved = json.loads((run / "config.json").read_text())
    kept = [saved[name] for name in ("num_epochs", "lr", "horizontal_flip")]
    assert kept == [1, float(np.float32(1e-4)), True]


@POSIX
@pytest.mark.parametrize("script", ["gan_demo.py", "gan_inference.py"])
def test_help_needs_nobody_to_read_it(script):
    ended = subprocess.run(f"{sys.executable} {ROOT / script} --help >&-", shell=True, check=False)
    assert ended.returncode == 0


def test_training_in_a_thread_changes_nothing_but_signals(tiny):
    expected, runs = states(train(tiny())), []
    thread = threading.Thread(target=lambda: runs.append(train(tiny())))
    thread.start()
    thread.join()
    assert states(runs[0]) == expected


@POSIX
def test_a_closed_terminal_saves_as_a_sigterm_does(tmp_path):
    images = save_images(tmp_path / "images", 60)
    process = started(tmp_path, "--data-dir", images, *FLAGS, 500, stdout=subprocess.PIPE)
    process.send_signal(signal.SIGHUP)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 129 and "--resume log_gan/run1" in printed
    assert list((tmp_path / "log_gan/run1").glob("*.pkl"))


@POSIX
def test_nohup_keeps_a_run_from_ending_with_its_terminal(tmp_path):
    images = save_images(tmp_path / "images", 60)
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    process = started(tmp_path, "--data-dir", images, *FLAGS, 5, **ignore)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=90) == 0


@POSIX
@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "2>/dev/full >/dev/full"])
def test_output_that_nobody_can_read_ends_nothing(tmp_path, closed):
    save_images(tmp_path / "images", 12)
    command = [sys.executable, str(ROOT / "gan_demo.py"), "--data-dir", "images", *FLAGS, "1"]
    ended = subprocess.run(f"{' '.join(command)} {closed}", shell=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0
    assert (tmp_path / "log_gan/run1/checkpoint_0_epoch.pkl").exists()


def test_letters_that_the_output_lacks_end_nothing(tmp_path):
    images = save_images(tmp_path / "脸 faces", 12)
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    flags = ["--data-dir", images, "--out-dir", "my 脸 runs", *FLAGS, 1]
    ended = run_script("gan_demo.py", *flags, cwd=tmp_path, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert "'my \\u8138 runs/run1'" in ended.stdout  # quoted, so that it can be pasted


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [row.replace(",", ";") for row in rows],  # as some programs save it
        lambda rows: rows[1:],
        lambda rows: [*rows[:-1], rows[-1][:-20]],  # cut short
        lambda rows: [*rows[:-1], rows[-1].rpartition(",")[0] + ",n/a"],
        lambda rows: [f"{row},1" for row in rows],
        lambda rows: [],
    ],
)
def test_changed_metrics_are_kept_aside_and_the_curves_go_on(tiny, capsys, monkeypatch, change):
    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda *a, **k: drawn.append(list(a[1])) or plot(*a, **k))
    run = train(tiny(num_epochs=2))
    rows = (run / "metrics.csv").read_text().splitlines()
    changed = "".join(f"{row}\n" for row in change(rows))
    (run / "metrics.csv").write_text(changed)
    train(replace(saved_config(str(run)), num_epochs=3))
    assert (
        run / "metrics_1.csv"
    ).read_text() == changed and "metrics_1.csv" in capsys.readouterr().out
    begun = (run / "metrics.csv").read_text().splitlines()
    assert begun[0] == rows[0] and [row[:4] for row in begun[1:]] == ["2,0,", "2,1,", "2,2,"]
    assert drawn[-2] == [7, 8, 9]  # iterations of the run, wherever the rows begin


def test_numbers_of_any_name_are_drawn(tiny, monkeypatch):
    step = gan_demo.train_step
    names = {**gan_demo.METRICS, "norm of G's step (mean)": "norm", "x-1": "another"}
    monkeypatch.setattr(gan_demo, "METRICS", names)
    monkeypatch.setattr(gan_demo, "train_step", lambda *a: torch.cat([step(*a), torch.ones(2)]))
    run = train(tiny(num_epochs=1))
    assert (run / "loss.png").exists()


def test_damaged_or_deleted_pictures_do_not_end_a_run(tiny):
    run = train(tiny(num_epochs=2))
    whole = (run / "epoch_000.png").read_bytes()
    (run / "epoch_000.png").write_bytes(whole[:-99])
    (run / "epoch_001.png").unlink()
    (run / "metrics.csv").unlink()
    (run / "generation_animation.gif").unlink()
    train(saved_config(str(run)))
    assert not (run / "generation_animation.gif").exists()
    (run / "epoch_000.png").write_bytes(whole)
    train(saved_config(str(run)))
    assert (run / "generation_animation.gif").exists()


def test_two_runs_do_not_share_one_process(tiny, monkeypatch):
    step, errors = gan_demo.train_step, []

    def train_step(*arguments):
        if threading.current_thread() is threading.main_thread() and not errors:
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()
        return step(*arguments)

    def second():
        with pytest.raises(RunError, match="another run is being trained in this process") as error:
            train(tiny())
        errors.append(error)

    expected = states(train(tiny(num_epochs=1)))
    monkeypatch.setattr(gan_demo, "train_step", train_step)
    assert states(train(tiny(num_epochs=1))) == expected  # the other one took no random numbers
    assert errors
    train(tiny(num_epochs=1))


def test_the_tilde_is_the_users_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert train(tiny(num_epochs=1, out_dir="~/runs")) == tmp_path / "home/runs/run1"


def test_a_run_ends_well_where_its_folder_to_stand_in_is_gone(tiny, monkeypatch, capsys):
    def gone(*_):
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os.path, "relpath", gone)
        train(tiny(num_epochs=1))
    assert f"python {ROOT / 'gan_inference.py'} --path" in capsys.readouterr().out


def test_commands_that_are_told_hold_where_one_is(tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    train(tiny(num_epochs=1))
    told = capsys.readouterr().out.splitlines()[-1]
    script = shlex.split(told.split("python ")[1])[0]
    assert (tmp_path / script).samefile(ROOT / "gan_inference.py")
    monkeypatch.chdir(ROOT)
    assert command(ROOT / "gan_inference.py") == "python gan_inference.py"


def test_an_error_that_nobody_foresaw_keeps_its_traceback(call):
    with pytest.raises(ZeroDivisionError):
        call(lambda: 1 / 0)
    for error in (torch.OutOfMemoryError("CUDA out of memory."), MemoryError()):

        def main(error=error):
            raise error

        code, text = call(main)
        assert code == 2 and text.startswith("script.py: there is not enough memory for this;")


def test_a_config_with_a_byte_order_mark_is_read(tiny):
    run = train(tiny(num_epochs=1))
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text, encoding="utf-8-sig")
    assert saved_config(str(run)).nz == 8
    (run / "config.json").write_text("[" * 100_000)
    with pytest.raises(RunError, match="its config.json cannot be read"):
        saved_config(str(run))


@pytest.mark.parametrize("change", ["deleted", "without its last newline", "of fewer rows"])
def test_metrics_that_begin_late_or_lack_something_go_on(tiny, capsys, change):
    run = train(tiny(num_epochs=2))
    path = run / "metrics.csv"
    rows = path.read_text().splitlines()
    kept = {"deleted": [], "without its last newline": rows[1:], "of fewer rows": rows[3:-1]}[
        change
    ]
    if kept:
        path.write_text("\n".join([rows[0], *kept]))
    else:
        path.unlink()
    for epochs in (3, 4):
        train(replace(saved_config(str(run)), num_epochs=epochs))
    assert "metrics.csv" not in capsys.readouterr().out and not (run / "metrics_1.csv").exists()
    places = [tuple(row.split(",")[:2]) for row in path.read_text().splitlines()[1:]]
    new = [(str(epoch), str(iteration)) for epoch in (2, 3) for iteration in range(3)]
    assert places == [tuple(row.split(",")[:2]) for row in kept] + new
    assert len({len(row.split(",")) for row in path.read_text().splitlines()}) == 1


def test_where_no_terminal_is_a_slow_run_has_a_line_each_half_minute(capsys, monkeypatch):
    """tqdm would look at the time seldom once it is fast, and its thread write one each 10 seconds."""
    monkeypatch.setattr(tqdm, "monitor_interval", 0.02)
    monkeypatch.setattr(tqdm, "monitor", None)
    with progress_bar(10, 0) as bar:
        bar.start_t -= 90
        bar.last_print_t -= 40
        bar.update(6)  # it is fast
        assert capsys.readouterr().err.startswith("6/10 images, ")
        bar.last_print_t -= 20
        time.sleep(0.2)
        assert capsys.readouterr().err == ""
        bar.last_print_t -= 20
        bar.update()  # and slow
        assert capsys.readouterr().err.startswith("7/10 images, ")
    tqdm.monitor.exit()


@pytest.mark.parametrize("go", [shutil.rmtree, lambda run: run.rename(run.with_name("moved"))])
def test_a_run_that_is_taken_away_while_it_trains_says_so(tiny, monkeypatch, go):
    config, step = tiny(), gan_demo.train_step

    def and_gone(*arguments):
        for run in Path(config.out_dir).glob("run1"):
            go(run)
        return step(*arguments)

    monkeypatch.setattr(gan_demo, "train_step", and_gone)
    gone = r"run1/metrics.csv could not be written: there is no folder .*run1; if it was moved"
    with pytest.raises(RunError, match=gone):
        train(config)


def test_a_run_whose_folder_was_moved_does_not_go_on_in_another_ones(tiny, monkeypatch):
    config, step = tiny(), gan_demo.train_step
    folder = Path(config.out_dir, "run1")

    def and_another(*arguments):
        if not folder.with_name("moved").exists():
            folder.rename(folder.with_name("moved"))
            folder.mkdir()
        return step(*arguments)

    monkeypatch.setattr(gan_demo, "train_step", and_another)
    with pytest.raises(RunError, match="run1 is another run's by now, .* go on in its new place"):
        train(config)
    assert not [*folder.iterdir()]


def test_a_folder_that_was_moved_is_not_made_anew(tmp_path):
    """As it would be by what is written of an epoch whose metrics are written already."""
    run = Run.__new__(Run)
    run.folder, run.inode = tmp_path / "run1", 1
    with pytest.raises(RunError, match="there is no folder .*run1; if it was moved"):
        run._write_epoch(0, 1, None, {"epoch": 0})
    assert not run.folder.exists()


@pytest.mark.parametrize("left", ["1", "2,", "1,1", "2,1", "2,3,0.5"])
def test_a_row_that_a_full_disk_cut_short_is_no_row(tiny, capsys, left):
    run = train(tiny(num_epochs=2))
    rows = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(rows + left)
    train(replace(saved_config(str(run)), num_epochs=3))
    assert not (run / "metrics_1.csv").exists() and "metrics" not in capsys.readouterr().out
    went_on = (run / "metrics.csv").read_text()
    assert went_on.startswith(rows) and len(went_on.splitlines()) == 10


def test_a_run_in_the_users_folder_goes_on(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    run = train(tiny(num_epochs=1, out_dir="~/runs"))
    for resume in ("~/runs/run1", "latest"):
        assert saved_config(resume, "~/runs").resume == str(run)


def test_rows_that_a_killed_run_left_behind_go_even_if_it_began_late(tiny):
    run = train(tiny(num_epochs=3))
    path = run / "metrics.csv"
    head, *rows = path.read_text().splitlines()
    for name in ("checkpoint_2_epoch.pkl", "epoch_002.png"):  # killed in the third epoch
        (run / name).unlink()
    path.write_text("\n".join([head, *rows[3:8]]))
    train(saved_config(str(run)))
    assert path.read_text().splitlines() == [head, *rows[3:]]


def test_a_run_of_a_notebook_says_how_it_goes_on(monkeypatch):
    monkeypatch.delattr(sys.modules[__name__], "__file__", raising=False)
    ours = type("Config", (), {"__module__": __name__})
    assert command_of(ours()) == "the same lines and"


def forbidden(path, *_, **__):
    raise PermissionError(13, "Permission denied", str(path))


def test_a_folder_that_may_not_be_listed_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    (tmp_path / "run1").mkdir()
    monkeypatch.setattr(os, "listdir", forbidden)
    with pytest.raises(RunError, match="could not be written \\(Permission denied"):
        new_folder(tmp_path, "run")
    with pytest.raises(PermissionError):
        saved_config("latest", tmp_path)


def test_a_run_of_another_user_is_passed_over_and_never_trained_unlocked(tiny, monkeypatch):
    run, other = train(tiny(num_epochs=1)), train(tiny(num_epochs=1))
    listdir = os.listdir
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "listdir", lambda path: (forbidden if path == other else listdir)(path))
        assert saved_config("latest", run.parent).resume == str(run)
    monkeypatch.setattr(files.FileLock, "acquire", lambda lock: forbidden(lock.lock_file))
    with pytest.raises(PermissionError):
        train(replace(saved_config(str(run)), num_epochs=2))


def test_a_config_that_was_deleted_meanwhile_is_written_again(tiny, monkeypatch):
    config, step = tiny(num_epochs=1), gan_demo.train_step

    def deleting_step(*arguments):
        Path(config.out_dir, "run1/config.json").unlink(missing_ok=True)
        return step(*arguments)

    monkeypatch.setattr(gan_demo, "train_step", deleting_step)
    run = train(config)
    assert saved_config(str(run)).num_epochs == 1


@pytest.mark.parametrize(
    "script", ["examples/ring.py", "applications/all.py", "applications/pix2pix.py"]
)
def test_a_script_in_a_folder_can_be_started_as_a_file(script, tmp_path):
    command = [sys.executable, ROOT / script, "--help"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--out-dir" in told.stdout and not told.stderr


def test_started_by_m_a_script_sees_what_is_in_its_folder_alone(monkeypatch, capsys):
    before = [*sys.path]
    monkeypatch.setattr(sys, "argv", ["ring.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_module("examples.ring", run_name="__main__")
    assert sys.path == before and "--out-dir" in capsys.readouterr().out
