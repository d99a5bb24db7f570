import csv
import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import RANDOM, ROOT, assert_same_run, save_images, states
from PIL import Image

import gan_demo
import gan_inference
import machinery.run
from common_tools import RunError
from gan_demo import Config, saved_config, train
from gan_inference import sample
from machinery.checkpoints import load_checkpoint, newest_checkpoint
from machinery.constants import config_from_flags
from machinery.ema import WeightAverage
from sampling import draw_noise


def test_a_run_leaves_what_the_readme_promises(finished_run):
    names = {path.name for path in finished_run.iterdir()}
    assert names == {
        ".lock", "config.json", "real.png", "metrics.csv", "loss.png", "generation_animation.gif",
        "epoch_000.png", "epoch_001.png", "epoch_002.png",
        "checkpoint_0_epoch.pkl", "checkpoint_1_epoch.pkl", "checkpoint_2_epoch.pkl",
    }  # fmt: skip
    with open(finished_run / "metrics.csv") as file:
        header, *rows = csv.reader(file)
    assert header == [
        "epoch", "iteration", "loss_d", "loss_g", "d_x", "d_gz_before", "d_gz_after"
    ]  # fmt: skip
    assert [row[:2] for row in rows] == [[e, i] for e in "012" for i in "012"]
    numbers = np.array(rows, float)
    assert np.isfinite(numbers).all() and (numbers[:, 4:] > 0).all() and (numbers[:, 4:] < 1).all()
    for name in ("real.png", "epoch_002.png"):
        picture = np.asarray(Image.open(finished_run / name))
        assert picture.std() > 10
    assert Image.open(finished_run / "epoch_000.png").size == (8 * 34 + 2, 8 * 34 + 2)
    assert Image.open(finished_run / "generation_animation.gif").n_frames == 3
    config = json.loads((finished_run / "config.json").read_text())
    assert config["num_epochs"] == 3 and config["nz"] == 8 and config["resume"] == ""


def test_a_checkpoint_keeps_the_contract(finished_run):
    checkpoint = load_checkpoint(finished_run / "checkpoint_1_epoch.pkl")
    assert checkpoint["epoch"] == 1
    assert {"main.0.weight", "main.1.running_mean"} <= checkpoint["g_model_state_dict"].keys()
    assert {"main.0.weight", "main.3.running_mean"} <= checkpoint["d_model_state_dict"].keys()


def test_the_nets_learn_and_the_pictures_do_not_disturb_them(tiny, monkeypatch):
    with_pictures = train(tiny())
    monkeypatch.setattr(gan_demo, "generate", lambda generator, noise: torch.zeros(64, 3, 32, 32))
    without = train(tiny())
    assert states(with_pictures) == states(without)
    first, last = (load_checkpoint(without / f"checkpoint_{n}_epoch.pkl") for n in (0, 1))
    for net in ("g_model_state_dict", "d_model_state_dict"):
        moved = (last[net]["main.0.weight"] - first[net]["main.0.weight"]).abs().max()
        assert 1e-5 < moved < 0.01


def test_the_average_of_the_weights_has_statistics_of_its_own(tiny, monkeypatch):
    weights, step = [], gan_demo.train_step
    noises, count = [], WeightAverage.count_statistics

    def recording_count(average, batches):
        noises[:] = batches
        count(average, noises)

    monkeypatch.setattr(WeightAverage, "count_statistics", recording_count)

    def recording_step(real, noise, generator, *rest):
        if not weights:
            weights.append(generator.main[0].weight.detach().clone())
        numbers = step(real, noise, generator, *rest)
        weights.append(generator.main[0].weight.detach().clone())
        return numbers

    plain = train(tiny(ema_decay=0, lr=0.01))
    monkeypatch.setattr(gan_demo, "train_step", recording_step)
    averaged = train(tiny(ema_decay=0.3, lr=0.01))
    checkpoint = newest_checkpoint(averaged)[1]
    expected = weights[0]
    for number, weight in enumerate(weights[1:]):
        share = max(0.7, 9 / (10 + number))  # more than 0.7 in the first four iterations
        expected = (1 - share) * expected + share * weight
    ema = checkpoint.pop("g_ema_model_state_dict")
    torch.testing.assert_close(ema["main.0.weight"], expected)

    # BatchNorm's means are those of what this very layer gives, for other noises than are drawn.
    noise = torch.cat(noises)
    assert len(noise) == 256 and not set(noise[:, 0, 0, 0].tolist()) & set(
        torch.cat(list(draw_noise(256, 8, seed=1)))[:, 0, 0, 0].tolist()
    )
    maps = torch.nn.functional.conv_transpose2d(noise, ema["main.0.weight"])
    torch.testing.assert_close(
        ema["main.1.running_mean"], maps.mean((0, 2, 3)), rtol=1e-3, atol=1e-5
    )

    # The pictures are the average's; all else is as without it.
    assert (averaged / "metrics.csv").read_bytes() == (plain / "metrics.csv").read_bytes()
    for key, value in newest_checkpoint(plain)[1]["g_model_state_dict"].items():
        assert torch.equal(value, checkpoint["g_model_state_dict"][key])
    assert (averaged / "epoch_001.png").read_bytes() != (plain / "epoch_001.png").read_bytes()

    monkeypatch.undo()
    resumed = train(tiny(ema_decay=0.3, lr=0.01, num_epochs=1))
    assert_same_run(train(replace(saved_config(str(resumed)), num_epochs=2)), averaged)


def test_the_optimizers_are_those_of_the_config(tiny):
    checkpoint = newest_checkpoint(train(tiny(num_epochs=1, lr=0.003, beta1=0.25)))[1]
    for name in ("g_optimizer_state_dict", "d_optimizer_state_dict"):
        (group,) = checkpoint[name]["param_groups"]
        assert group["lr"] == 0.003 and group["betas"] == (0.25, 0.999)


def test_runs_get_folders_of_their_own(tiny):
    first, second = train(tiny(num_epochs=1)), train(tiny(num_epochs=1))
    assert (first.name, second.name) == ("run1", "run2")
    assert states(first) == states(second)


def test_only_the_newest_checkpoints_are_kept(tiny):
    run = train(tiny(num_epochs=5, checkpoint_interval=2, keep_checkpoints=2))
    kept = sorted(path.name for path in run.glob("*.pkl"))
    assert kept == ["checkpoint_3_epoch.pkl", "checkpoint_4_epoch.pkl"]


def test_a_later_checkpoint_that_is_damaged_takes_no_good_ones_place(tiny, capsys):
    run = train(tiny(num_epochs=4, checkpoint_interval=2, keep_checkpoints=1))
    newest = run / "checkpoint_3_epoch.pkl"
    config = tiny(num_epochs=2, checkpoint_interval=1, keep_checkpoints=1)
    shutil.copy(train(config) / "checkpoint_1_epoch.pkl", run)
    newest.write_bytes(newest.read_bytes()[:-1])
    run = train(replace(config, num_epochs=3, resume=str(run)))
    assert f"Looking for an older checkpoint, since {newest}" in capsys.readouterr().out
    kept = sorted(path.name for path in run.glob("*.pkl"))
    assert kept == ["checkpoint_2_epoch.pkl", "checkpoint_3_epoch.pkl"]


def test_a_run_goes_on_from_inside_its_images(tiny, images, monkeypatch):
    """Where new runs would go from here does not matter to it."""
    config = tiny(num_epochs=1)
    run = train(config)
    monkeypatch.chdir(images)
    train(replace(config, num_epochs=2, resume=str(run), out_dir="log"))
    assert (run / "checkpoint_1_epoch.pkl").exists()


@pytest.mark.parametrize(("image_size", "nc"), [(32, 1), (64, 1), (128, 3), (256, 1)])
def test_every_size_and_colour_trains(tiny, image_size, nc):
    run = train(tiny(image_size=image_size, nc=nc, num_epochs=1, max_images=8, ngf=4, ndf=4))
    side = 8 * (image_size + 2) + 2
    assert Image.open(run / "epoch_000.png").size == (side, side)
    (picture,) = sample(
        gan_inference.Config(path_checkpoint=str(run), out_dir=str(run / "samples"))
    )
    assert Image.open(picture).size == (side, side)


@pytest.mark.parametrize("kill_after", [1, 5, 6, 8])  # iterations; an epoch has three
def test_a_killed_run_resumes_to_the_same_end(tiny, finished_run, monkeypatch, kill_after):
    class Killed(BaseException):
        """Ends the run where it stands, as SIGKILL would: nothing of ours handles it."""

    steps, step = itertools.count(1), gan_demo.train_step

    def killing_step(*arguments):
        if next(steps) > kill_after:
            raise Killed
        return step(*arguments)

    config = tiny(num_epochs=3, log_interval=2, **RANDOM)
    monkeypatch.setattr(gan_demo, "train_step", killing_step)
    with pytest.raises(Killed):
        train(config)
    monkeypatch.undo()
    if kill_after < 3:
        with pytest.raises(RunError, match="has no run to go on with"):
            train(saved_config("latest", config.out_dir))
    else:
        assert_same_run(train(saved_config("latest", config.out_dir)), finished_run)


@pytest.mark.parametrize("iteration", [2, 3, 5, 9])  # the third ends an epoch, the ninth the run
def test_a_signal_in_any_iteration_changes_nothing(tiny, finished_run, monkeypatch, iteration):
    steps, step = itertools.count(1), gan_demo.train_step

    def signalling_step(*arguments):
        if next(steps) == iteration:
            signal.raise_signal(signal.SIGTERM)
        return step(*arguments)

    config = tiny(num_epochs=3, log_interval=2, **RANDOM)
    monkeypatch.setattr(gan_demo, "train_step", signalling_step)
    with pytest.raises(SystemExit) as ended:
        train(config)
    assert ended.value.code == 143
    monkeypatch.undo()
    assert_same_run(train(saved_config("latest", config.out_dir)), finished_run)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals to send")
def test_a_signal_saves_and_the_run_resumes_to_the_same_end(tmp_path, call, number, code):
    images = save_images(tmp_path / "images", 200)
    flags = "--image-size 32 --nz 8 --ngf 8 --ndf 8 --batch-size 4 --num-epochs 2 --log-interval 1"
    flags += " --device cpu"
    command = [sys.executable, ROOT / "gan_demo.py", "--data-dir", images, *flags.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    run = tmp_path / "log_gan/run1"
    deadline = time.monotonic() + 90
    while not (run / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, number)  # the whole group, as a terminal does at Ctrl-C
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "--resume log_gan/run1" in printed
    assert [path.name for path in run.glob("*.pkl")] == ["checkpoint_interrupted.pkl"]
    rows = (run / "metrics.csv").read_text().splitlines()[1:]
    assert load_checkpoint(run / "checkpoint_interrupted.pkl")["step"] == len(rows) < 50

    for arguments in (["--resume", "latest"], ["--data-dir", images, *flags.split()]):
        assert call(gan_demo.main, *arguments)[0] == 0
    assert not (run / "checkpoint_interrupted.pkl").exists()
    assert_same_run(run, tmp_path / "log_gan/run2")


@pytest.mark.parametrize("script", ["gan_demo.py", "gan_inference.py", "gan_evaluate.py"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals to send")
def test_ctrl_c_ends_in_silence_while_pytorch_is_loaded(tmp_path, script):
    for slow in ("torch", "numpy"):  # whichever comes first stands for the seconds it may take
        (tmp_path / f"{slow}.py").write_text(
            "import time; print('loading', flush=True); time.sleep(60)"
        )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, ROOT / script], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT and not error


def test_resuming_takes_more_epochs_and_refuses_another_net(tiny):
    run = train(tiny(num_epochs=1))
    config = saved_config(str(run))
    for name, value, was in [
        ("ngf", 16, 8),
        ("seed", 2, 1),
    ]:
        with pytest.raises(RunError, match=f"^{name} is {value}, .* {was};"):
            train(replace(config, **{name: value}))
    with pytest.raises(RunError, match="num_epochs is 1, but .* is further already"):
        done = train(tiny(num_epochs=2))
        train(replace(saved_config(str(done)), num_epochs=1))
    longer = train(replace(config, num_epochs=2, checkpoint_interval=5, keep_checkpoints=1))
    assert longer == run
    assert [path.name for path in run.glob("*.pkl")] == ["checkpoint_1_epoch.pkl"]
    assert json.loads((run / "config.json").read_text())["num_epochs"] == 2
    assert_same_run(run, train(tiny(num_epochs=2)))


def test_a_finished_run_can_be_resumed_without_harm(tiny):
    run = train(tiny(num_epochs=1))
    before = states(run)
    pictures = [run / "generation_animation.gif", run / "loss.png"]
    for picture in pictures:  # the run was killed before it wrote them
        picture.unlink()
    assert train(replace(saved_config(str(run)), resume="latest")) == run
    assert states(run) == before and all(picture.exists() for picture in pictures)


def test_a_run_of_an_older_version_goes_on(tiny):
    """Its checkpoints name no place in the data; it follows from their step. The recipe was plain."""
    plain = tiny(diffaugment="", ema_decay=0.0)
    run = train(plain)
    config = json.loads((run / "config.json").read_text())
    for name in ("diffaugment", "ema_decay", "lr_d", "lr_decay_epochs"):
        del config[name]
    config |= {"recipe": "default", "num_workers": 0}  # which there were at that time
    (run / "config.json").write_text(json.dumps(config))
    path = run / "checkpoint_0_epoch.pkl"
    checkpoint = load_checkpoint(path)
    assert checkpoint.pop("place") == (1, 0, 0)
    torch.save(checkpoint, path)
    (run / "checkpoint_1_epoch.pkl").unlink()
    assert_same_run(train(saved_config(str(run))), train(plain))


def test_a_run_begun_before_runs_had_a_file_of_their_own_goes_on(tmp_path, monkeypatch):
    """tests/old_run holds one of its two epochs, and the metrics.csv of the same run trained whole."""
    folder = shutil.copytree(ROOT / "tests/old_run", tmp_path / "old")
    monkeypatch.chdir(folder)
    begun = (folder / "run/metrics.csv").read_text()
    run = train(replace(saved_config("run"), num_epochs=2, bf16=False))
    whole, rows = (
        np.genfromtxt(path, delimiter=",", names=True)
        for path in (folder / "whole_metrics.csv", run / "metrics.csv")
    )
    assert (run / "metrics.csv").read_text().startswith(begun) and rows.dtype == whole.dtype
    assert len(rows) == len(whole) == 2 * len(begun.splitlines()[1:])
    for name in rows.dtype.names:
        np.testing.assert_allclose(rows[name], whole[name], rtol=1e-3)
    old, new = (load_checkpoint(run / f"checkpoint_{epoch}_epoch.pkl") for epoch in (0, 1))
    assert new.keys() == old.keys() - {"random_state"}  # which is not needed any more
    assert new["place"] == (2, 0, 0) and new["step"] == 6


def test_data_dir_may_be_named_again_where_its_zip_stands_in(tmp_path, images, call):
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data/img_align_celeba.zip", "w") as file:
        for path in sorted(images.iterdir()):
            file.write(path, path.name)
    flags = "--image-size 32 --nz 8 --ngf 8 --ndf 8 --batch-size 8 --device cpu --num-epochs"
    code, error = call(gan_demo.main, *flags.split(), 1)
    assert code == 0, error
    again = "--resume latest --num-epochs 2 --data-dir data/img_align_celeba"
    code, error = call(gan_demo.main, *again.split())
    assert code == 0, error


def test_what_cannot_be_written_stops_the_run_within_an_epoch(tiny, monkeypatch):
    steps, step = [], gan_demo.train_step
    monkeypatch.setattr(gan_demo, "train_step", lambda *a: steps.append(1) or step(*a))

    def save_checkpoint(checkpoint, path):
        if checkpoint["epoch"] == 1:
            raise RunError("no space left")

    monkeypatch.setattr(machinery.run, "save_checkpoint", save_checkpoint)
    with pytest.raises(RunError, match="no space left"):
        train(tiny(num_epochs=9))
    assert len(steps) == 3 * 3


def test_tensorboard_gets_scalars_and_pictures(tiny):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tiny(tensorboard=True, log_interval=1))
    events = EventAccumulator(str(run)).Reload()
    rows = np.genfromtxt(run / "metrics.csv", delimiter=",", names=True)
    for name in gan_demo.METRICS:
        scalars = [event.value for event in events.Scalars(name)]
        np.testing.assert_allclose(scalars, rows[name], rtol=1e-4)
    train(replace(saved_config(str(run)), num_epochs=3))
    events = EventAccumulator(str(run)).Reload()
    assert [event.step for event in events.Images("fixed_noise")] == [3, 6, 9]
    assert [event.step for event in events.Scalars("d_x")] == list(range(1, 10))


def test_event_files_that_cannot_be_written_end_in_a_sentence(tiny, monkeypatch, capfd):
    from tensorboard.summary.writer.record_writer import RecordWriter

    def write(_writer, _data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RecordWriter, "write", write)
    with pytest.raises(RunError, match=r"could not be written \(No space left on device\)"):
        train(tiny(tensorboard=True))
    assert "Traceback" not in capfd.readouterr().err


def test_as_many_numbers_are_wanted_as_metrics_have_names(tiny, monkeypatch):
    monkeypatch.setitem(gan_demo.METRICS, "loss_e", "Loss_E")
    with pytest.raises(
        RunError, match=r"gave 5 numbers for 6 metrics \(loss_d, .*, loss_e\); give"
    ):
        train(tiny())


def test_bad_constants_are_found_before_any_work(tiny):
    bad = {
        "image_size": 48, "nc": 2, "nz": 0, "ngf": 0, "ndf": -1, "num_epochs": 0, "batch_size": 0,
        "lr": 0.0, "lr_d": 1.5, "beta1": 1.0, "real_label": 1.1, "fake_label": -0.1, "seed": -1,
        "diffaugment": "colour", "ema_decay": 1.0, "lr_decay_epochs": -1,
        "checkpoint_interval": 0, "keep_checkpoints": -1, "log_interval": -1, "max_images": -1,
    }  # fmt: skip
    for name, value in bad.items():
        config = tiny(**{name: value}, data_dir="not even looked for")
        with pytest.raises(RunError, match=f"^{name} is {value}; it must be "):
            train(config)
    with pytest.raises(RunError, match="data_dir has a null character in it"):
        train(tiny(data_dir="a\0b"))
    with pytest.raises(RunError, match="^data_dir  my  photos does not exist"):  # both blanks, too
        train(tiny(data_dir=" my  photos"))
    with pytest.raises(RunError, match="lr is nan"):
        train(tiny(lr=float("nan")))
    with pytest.raises(RunError, match="device cuda:99 cannot be used here"):
        train(tiny(device="cuda:99"))


def test_an_unknown_flag_gets_tyros_message(call):
    code, error = call(gan_demo.main, "--num-epoch", "5")
    assert code == 2 and "--num-epochs" in error


def test_the_recipe_of_the_chapter_is_its_own_and_flags_beside_it_win(monkeypatch):
    def config(flags=""):
        monkeypatch.setattr(sys, "argv", ["gan_demo.py", *flags.split()])
        return config_from_flags(Config, {"chapter": gan_demo.CHAPTER})

    assert config() == Config()
    chapter = config("--recipe chapter")
    assert chapter == Config(**gan_demo.CHAPTER)
    assert (chapter.image_size, chapter.nc, chapter.nz, chapter.ngf) == (64, 3, 100, 64)
    assert (chapter.ndf, chapter.num_epochs, chapter.max_images) == (64, 20, 0)
    assert (chapter.batch_size, chapter.lr, chapter.beta1) == (64, 0.0002, 0.5)
    assert (chapter.real_label, chapter.fake_label, chapter.seed) == (1, 0, 1)
    assert not chapter.horizontal_flip and not chapter.ema_decay and chapter.lr_decay_epochs == 8
    assert not chapter.lr_d and not chapter.diffaugment and not chapter.match_contrast
    for flags in ("--recipe chapter --real-label 0.9", "--real-label 0.9 --recipe chapter"):
        assert config(flags) == replace(chapter, real_label=0.9)


def test_resuming_with_the_other_recipe_is_refused(tiny, tmp_path, call):
    train(tiny(**{**gan_demo.CHAPTER, "batch_size": 8, "num_epochs": 1}))
    again = "--resume latest --out-dir log --num-epochs 2 --recipe chapter"
    code, error = call(gan_demo.main, *again.split())
    assert code == 2 and "batch_size is 64, but" in error
    code, error = call(gan_demo.main, *again.split(), "--batch-size", 8)
    assert code == 0, error
    again = "--resume latest --out-dir log --recipe chapter --batch-size 8"
    assert call(gan_demo.main, *again.split())[0] == 0
    assert saved_config("latest", "log").num_epochs == 2  # not the recipe's 20


def test_the_learning_rate_falls_to_a_tenth_and_again(tiny, monkeypatch):
    rates, step = [], gan_demo.train_step

    def recording_step(real, noise, generator, discriminator, *optimizers_and_config):
        for optimizer in optimizers_and_config[:2]:
            rates.append(optimizer.param_groups[0]["lr"].item())
        return step(real, noise, generator, discriminator, *optimizers_and_config)

    monkeypatch.setattr(gan_demo, "train_step", recording_step)
    run = train(tiny(lr=0.001, lr_d=0.004, lr_decay_epochs=2, num_epochs=3))
    both = np.array([0.001, 0.004])
    assert rates == pytest.approx(np.concatenate([*6 * [both], *3 * [both / 10]]))
    rates.clear()
    train(replace(saved_config(str(run)), num_epochs=5))  # a resumed run knows where it is
    assert rates == pytest.approx(np.concatenate([*3 * [both / 10], *3 * [both / 100]]))


def test_a_run_may_start_from_other_weights(tiny, tmp_path, capsys):
    source = train(tiny(ema_decay=0.9, num_epochs=1))
    path = source / "checkpoint_0_epoch.pkl"
    checkpoint = load_checkpoint(path)
    still = {"lr": 1e-9, "ema_decay": 0.0, "num_epochs": 1}
    run = train(tiny(**still, init_from=str(path)))
    started = load_checkpoint(run / "checkpoint_0_epoch.pkl")
    for net, origin in [
        ("g_model_state_dict", "g_ema_model_state_dict"),
        ("d_model_state_dict", "d_model_state_dict"),
    ]:
        for name, parameter in started[net].items():
            if name.endswith("weight"):
                torch.testing.assert_close(parameter, checkpoint[origin][name])

    # A run's folder; and a file under other names, alone in its folder
    nets = {"D": checkpoint["d_model_state_dict"], "G": checkpoint["g_ema_model_state_dict"]}
    others = {f"{net}.net.{key}": nets[net][key] for net in nets for key in nets[net]}
    (tmp_path / "others").mkdir()
    torch.save(others, tmp_path / "others/weights.pth")
    capsys.readouterr()
    for folder in (source, tmp_path / "others"):
        run = train(tiny(**still, init_from=str(folder)))
        again = load_checkpoint(run / "checkpoint_0_epoch.pkl")
        for net in ("g_model_state_dict", "d_model_state_dict"):
            assert all(torch.equal(started[net][name], again[net][name]) for name in again[net])
    assert "has no DCGAN discriminator" not in capsys.readouterr().out

    torch.save(checkpoint | {"d_model_state_dict": None}, tmp_path / "without.pkl")
    train(tiny(**still, init_from=str(tmp_path / "without.pkl")))
    assert "has no DCGAN discriminator" in capsys.readouterr().out

    # G and D in two files, named as the released ones, or as those of pytorch/examples
    for name_g, name_d in [("faces.pkl", "faces_d.pkl"), ("netG_epoch_1.pth", "netD_epoch_1.pth")]:
        torch.save(nets["G"], tmp_path / name_g)
        torch.save(nets["D"], tmp_path / name_d)
        capsys.readouterr()
        run = train(tiny(**still, init_from=str(tmp_path / name_g)))
        assert f"The discriminator is that of {tmp_path / name_d}." in capsys.readouterr().out
        again = load_checkpoint(run / "checkpoint_0_epoch.pkl")["d_model_state_dict"]
        assert all(torch.equal(started["d_model_state_dict"][name], again[name]) for name in again)

    # What lies there and cannot be used is passed over: the user has not named it
    train(tiny(**still | {"ndf": 4}, init_from=str(tmp_path / "faces.pkl")))
    assert "faces_d.pkl has other sizes than this run's." in capsys.readouterr().out
    (tmp_path / "faces_d.pkl").write_bytes(b"no weights")
    train(tiny(**still, init_from=str(tmp_path / "faces.pkl")))
    out = capsys.readouterr().out
    assert f"Going on without the discriminator beside {tmp_path / 'faces.pkl'}:" in out
    assert (
        f"random weights. (One of its sizes in {tmp_path / 'faces_d.pkl'} would be taken.)" in out
    )
    torch.save(nets["G"], tmp_path / "faces_d.pkl")
    train(tiny(**still, init_from=str(tmp_path / "faces.pkl")))
    assert "faces.pkl has no DCGAN discriminator" in capsys.readouterr().out

    # A bare generator, in half precision too; then the run goes on without that file.
    bare = tmp_path / "generator.pth"
    half = {name: value.half() for name, value in checkpoint["g_ema_model_state_dict"].items()}
    torch.save(half, bare)
    capsys.readouterr()
    run = train(tiny(**still, init_from=str(bare)))
    assert "has no DCGAN discriminator" in capsys.readouterr().out
    started = load_checkpoint(run / "checkpoint_0_epoch.pkl")["g_model_state_dict"]
    torch.testing.assert_close(started["main.0.weight"], half["main.0.weight"].float())
    bare.unlink()
    train(replace(saved_config(str(run)), num_epochs=2))

    sizes = "--nz 8 --ngf 8 --nc 3 --image-size 32 --ndf 8"
    for wrong in ({"ngf": 4}, {"nz": 9}, {"image_size": 64}, {"ndf": 4}):
        with pytest.raises(
            RunError, match=f"have other sizes than this run's; give theirs: {sizes}"
        ):
            train(tiny(**wrong, init_from=str(path)))
    with pytest.raises(RunError, match="checkpoint missing does not exist"):
        train(tiny(init_from="missing"))


def test_a_discriminator_that_wins_for_long_is_told_of_once(tiny, monkeypatch, capsys):
    def printed(d_x, d_gz):
        numbers = torch.tensor([0.01, 9.0, d_x, d_gz, 0.0])
        monkeypatch.setattr(gan_demo, "train_step", lambda *_: numbers)
        train(tiny(num_epochs=300, checkpoint_interval=300, real_label=0.9, ema_decay=0))
        return capsys.readouterr().out

    monkeypatch.setattr(machinery.run, "save_picture", lambda *_: None)
    monkeypatch.setattr(machinery.run, "save_animation", lambda *_, **__: None)
    assert printed(0.899, 0.001).count("docs/reading-the-curves.md") == 1
    assert "docs/" not in printed(0.75, 0.1)


def test_labels_that_do_not_tell_real_from_fake_say_nothing_of_who_wins(capsys):
    row = [1.0, 1.0, 0.9, 0.1, 0.1]  # as METRICS
    for real_label in (0.5, 0.1):
        standing = gan_demo.Standing(Config(real_label=real_label, fake_label=0.5))
        standing([row] * 1000)
    assert "D has been" not in "".join(capsys.readouterr())
    gan_demo.Standing(Config())([[1.0, 1.0, 0.95, 0.0, 0.0]] * 1000)
    assert "D has been" in "".join(capsys.readouterr())
