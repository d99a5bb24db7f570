"""The figures must mean what they say: zero for the same, known order and size for the rest."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import save_images, save_weights
from PIL import Image
from test_features import cut_network, spots, stand_in

import gan_evaluate
import sampling
from common_tools import RunError
from gan_demo import train
from gan_evaluate import REAL, Config, evaluate, trained_on
from machinery import checkpoints, figures
from machinery.checkpoints import load_checkpoint, newest_checkpoint
from machinery.figures import (
    contrast,
    descriptors,
    laplacian_pyramid,
    nearest,
    patches,
    sliced_wasserstein,
    swd,
)
from my_dataset import CELEBA_DIR


def test_a_pyramid_holds_the_image_scale_by_scale():
    images = torch.rand(2, 3, 64, 64)
    levels = laplacian_pyramid(images)
    assert [level.shape[-1] for level in levels] == [64, 32, 16]
    total = levels[-1]
    for level in levels[-2::-1]:
        total = level + figures._enlarge(total)
    torch.testing.assert_close(total, images, rtol=0, atol=1e-6)
    flat = laplacian_pyramid(torch.full((1, 1, 32, 32), 0.7))  # no details, all in the last
    torch.testing.assert_close(flat[0], torch.zeros(1, 1, 32, 32), rtol=0, atol=1e-6)
    torch.testing.assert_close(flat[1], torch.full((1, 1, 16, 16), 0.7))


def test_descriptors_are_patches_of_each_level_normalised():
    ramp = torch.arange(40.0).expand(1, 1, 40, 40) + 100 * torch.arange(40.0)[:, None]
    cut = patches(ramp, torch.Generator().manual_seed(0), count=500)[..., 0]
    assert cut.shape == (500, 7, 7) and len(cut[:, 0, 0].unique()) > 300  # of 34 * 34 places
    assert (cut.diff(dim=2) == 1).all() and (cut.diff(dim=1) == 100).all()

    points = descriptors(spots(300, 0))
    assert {side: tuple(each.shape) for side, each in points.items()} == {
        32: (300 * 128, 147), 16: (300 * 128, 147)
    }  # fmt: skip
    for each in points.values():
        channels = each.view(-1, 3)
        torch.testing.assert_close(channels.mean(0), torch.zeros(3), rtol=0, atol=1e-3)
        torch.testing.assert_close(channels.std(0), torch.ones(3), rtol=0, atol=1e-3)


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection():
    random = torch.Generator().manual_seed(0)
    points = torch.randn(500, 10, generator=random)
    shift = torch.zeros(10)
    shift[3] = 2.0
    expected = 2 * math.gamma(5) / (math.sqrt(math.pi) * math.gamma(5.5))  # E |u_3| is half of it
    assert sliced_wasserstein(points, points + shift, random, 6400) == pytest.approx(
        expected, rel=0.02
    )
    assert sliced_wasserstein(points, points[torch.randperm(500)], random) < 1e-6


def test_swd_is_zero_for_the_same_small_by_chance_and_grows_with_noise():
    images, others = spots(300, 0), spots(300, 1)

    def distance(pixels):
        return swd(descriptors(pixels), descriptors(images))

    def noisy(amount):
        noise = np.random.default_rng(0).normal(0, amount, others.shape)
        return (others + noise).clip(0, 255).astype(np.uint8)

    assert distance(images) == {32: 0, 16: 0}
    chance, little, much = distance(others), distance(noisy(4)), distance(noisy(12))
    assert chance == distance(others)
    assert 0 < 3 * chance[32] < little[32] < much[32]
    assert little[32] > little[16]  # noise is a fine detail
    few = distance(np.repeat(others[:3], 100, axis=0))
    assert few[16] > 3 * chance[16]


def test_contrast_is_the_spread_inside_each_image():
    rng = np.random.default_rng(1)
    shades = rng.integers(50, 200, (20, 1, 1, 1))  # of a whole image: no contrast
    checks = 30 * (-1) ** np.indices((20, 32, 32, 3)).sum(0)  # 30 to both sides of it
    assert contrast((shades + checks).astype(np.uint8)) == pytest.approx(30)


def test_the_nearest_image_is_found_in_every_block():
    others = spots(2500, 0)
    wanted = others[[3, 1023, 1024, 2499]]
    changed = np.clip(wanted.astype(int) + 2, 0, 255).astype(np.uint8)
    assert np.array_equal(nearest(changed, others), wanted)


@pytest.fixture
def settings(images, finished_run, tmp_path):
    return {
        "path_checkpoint": str(finished_run), "data_dir": str(images), "device": "cpu",
        "cache_dir": str(tmp_path / "cache"), "out_dir": str(tmp_path / "evaluations"),
    }  # fmt: skip


def test_each_checkpoint_of_a_run_is_measured_and_the_best_named(settings, tmp_path, capsys):
    rows = evaluate(Config(**settings))
    names = [f"{settings['path_checkpoint']}/checkpoint_{number}_epoch.pkl" for number in range(3)]
    assert list(rows) == [REAL, *names]
    assert list(rows[REAL]) == ["SWD 32", "SWD 16", "SWD", "contrast"]
    assert all(row["SWD"] == (row["SWD 32"] + row["SWD 16"]) / 2 for row in rows.values())
    best = min(names, key=lambda name: rows[name]["SWD"])
    printed = capsys.readouterr().out
    assert "13 images of each kind" in printed and f"Best by SWD: {best}" in printed
    picture = tmp_path / "evaluations/evaluation1/nearest.png"
    assert Image.open(picture).size == (8 * 34 + 2, 2 * 34 + 2)

    assert rows == evaluate(Config(**settings | {"data_dir": ""}))  # the run's own images

    released = tmp_path / "released/weights.pkl"  # a folder that is no run's
    save_weights({"of G": load_checkpoint(names[0])["g_ema_model_state_dict"]}, released)
    measured = evaluate(Config(**settings | {"path_checkpoint": str(released.parent)}))
    assert measured == {REAL: rows[REAL], str(released): rows[names[0]]}

    alone = evaluate(Config(**settings | {"path_checkpoint": names[1]}))
    assert list(alone) == [REAL, names[1]] and alone[names[1]] == rows[names[1]]
    assert alone[REAL] == rows[REAL]
    fewer = evaluate(Config(**settings, num_img=8, seed=2))
    assert fewer[REAL] != rows[REAL]


def test_the_table_and_the_best_go_by_fid_where_there_is_one(settings, monkeypatch, capsys):
    stand_in(monkeypatch)
    rows = evaluate(Config(**settings, inception=True))
    assert list(rows[REAL])[4:] == ["FID", "KID", "+-", "precision", "recall"]
    best = min(list(rows)[1:], key=lambda path: rows[path]["FID"])
    assert f"Best by FID: {best}" in capsys.readouterr().out


def test_without_inception_the_best_goes_by_swd(settings, monkeypatch, capsys):
    stand_in(monkeypatch, "vgg16")
    cut_network(monkeypatch)
    rows = evaluate(Config(**settings, inception=True))
    assert list(rows[REAL])[4:] == ["precision", "recall"]
    assert "Best by SWD: " in capsys.readouterr().out


def test_the_images_of_the_run_are_those_that_it_was_trained_on(tiny, tmp_path, capsys):
    folder = save_images(tmp_path / "some_bad", 40)
    (folder / "010.png").write_bytes(b"broken")
    run = train(tiny(data_dir=str(folder), max_images=24, skip_bad_images=True, num_epochs=1))
    packed = list((tmp_path / "cache").iterdir())
    places = {"cache_dir": str(tmp_path / "cache"), "out_dir": str(tmp_path / "evaluations")}
    own = Config(path_checkpoint=str(run), device="cpu", **places)
    evaluate(own)
    printed = capsys.readouterr().out
    assert "11 images of each kind, seed 1; the real ones out of 23 " in printed
    assert "has other images" not in printed
    assert list((tmp_path / "cache").iterdir()) == packed  # nothing is decoded again

    (folder / "003.png").unlink()
    evaluate(own)
    told = f"{folder} has other images than the run was trained on; the figures are of those that"
    assert told in capsys.readouterr().out

    # A folder that is named counts with all its images.
    named = replace(own, data_dir=str(folder))
    with pytest.raises(RunError, match=r"1 of 39 images .* \(010.png\); .* --skip-bad-images"):
        evaluate(named)
    evaluate(replace(named, skip_bad_images=True))
    assert "19 images of each kind, seed 1; the real ones out of 38 " in capsys.readouterr().out


def test_a_config_json_of_any_content_gives_images_or_a_sentence(tmp_path):
    path, config = tmp_path / "checkpoint_0_epoch.pkl", tmp_path / "config.json"
    assert trained_on(path) == (CELEBA_DIR, 0, False)
    config.write_text('{"data_dir": "faces", "lr": 1}')  # of a run before there were the others
    assert trained_on(path) == ("faces", 0, False)
    config.write_text('{"data_dir": "a.zip", "max_images": 5, "skip_bad_images": true}')
    assert trained_on(path) == ("a.zip", 5, True)
    damaged = ["", "{", "5", "null", '"5"', "[]", '{"max_images": 5}', '{"data_dir": null}', "\xff"]
    damaged += [f'{{"data_dir": "a", "max_images": {value}}}' for value in ("-1", '"5"', "null")]
    damaged += ['{"data_dir": "a", "skip_bad_images": "no"}']
    for content in damaged:
        config.write_bytes(content.encode("latin-1"))
        with pytest.raises(RunError, match="config.json does not tell .* --data-dir"):
            trained_on(path)


def test_a_damaged_config_json_does_not_matter_where_images_are_named(settings, tmp_path):
    run = shutil.copytree(settings["path_checkpoint"], tmp_path / "run")
    (run / "config.json").write_text("null")
    evaluate(Config(**settings | {"path_checkpoint": str(run)}))


def test_damaged_checkpoints_are_named_and_left_out(settings, tmp_path, capsys):
    run = shutil.copytree(settings["path_checkpoint"], tmp_path / "run")
    settings["path_checkpoint"] = str(run)
    expected = evaluate(Config(**settings))
    paths = sorted(run.glob("*.pkl"))
    for damaged, path in enumerate(paths[:2], 1):  # the first, then the middle one too
        path.write_bytes(path.read_bytes()[:-9])
        rows = evaluate(Config(**settings))
        left = [REAL, *map(str, paths[damaged:])]
        assert rows == {name: expected[name] for name in left}
        assert f"Leaving out a checkpoint, since {path} is not" in capsys.readouterr().out
    paths[2].write_bytes(b"")
    with pytest.raises(RunError, match=f"{paths[0]} is not a checkpoint that can be opened"):
        evaluate(Config(**settings))
    capsys.readouterr()
    with pytest.raises(RunError, match=f"{paths[0]} is not a checkpoint that can be opened"):
        evaluate(Config(**settings | {"path_checkpoint": str(paths[0])}))
    assert not capsys.readouterr().out  # nothing is left to go on with


def test_each_checkpoint_is_opened_once(settings, monkeypatch):
    opened = []

    def load(path):
        opened.append(str(path))
        return load_file(path)

    load_file = checkpoints.load_file
    for module in (checkpoints, gan_evaluate, sampling):
        monkeypatch.setattr(module, "load_file", load)
    rows = evaluate(Config(**settings))
    assert opened == list(rows)[1:]


def test_the_average_of_the_weights_is_measured_unless_raw_is_asked_for(settings, tmp_path):
    path, checkpoint = newest_checkpoint(settings["path_checkpoint"])
    del checkpoint["g_ema_model_state_dict"]
    torch.save(checkpoint, tmp_path / "raw.pkl")

    def figures(path, **options):
        return evaluate(Config(**settings | {"path_checkpoint": str(path)}, **options))[str(path)]

    alone = figures(tmp_path / "raw.pkl")
    assert figures(path, raw=True) == alone
    assert figures(path) != alone
