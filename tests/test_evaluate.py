"""The figures must mean what they say: zero for the same, known order and size for the rest."""

import functools
import math
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from common_tools import RunError
from gan_evaluate import REAL, Config, evaluate, inception_figures
from machinery import figures
from machinery.checkpoints import load_checkpoint, newest_checkpoint, save_checkpoint
from machinery.figures import (
    contrast,
    descriptors,
    laplacian_pyramid,
    nearest,
    patches,
    sliced_wasserstein,
    swd,
)


def spots(count, seed, colours=256, side=32):
    """uint8 images (count, side, side, 3), each of one blurred spot with a colour of its own."""
    random = np.random.default_rng(seed)
    axis = np.linspace(-1, 1, side)
    x, y = random.uniform(-0.6, 0.6, (2, count, 1, 1))
    bright = np.exp(-8 * ((axis - x) ** 2 + (axis[:, None] - y) ** 2))
    colour = random.integers(0, colours, (count, 1, 1, 3))
    return (bright[..., None] * colour).astype(np.uint8)


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


class MeanColours(FeatureExtractorBase):
    """A small stand-in for the Inception net: mean colours of the quarters of an image."""

    def __init__(self, name, features_list, **_):
        super().__init__(name, features_list)

    @staticmethod
    def get_provided_features_list():
        return ("colours",)

    @staticmethod
    def get_default_feature_layer_for_metric(_):
        return "colours"

    @staticmethod
    def can_be_compiled():
        return False

    def forward(self, images):
        return (torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1),)


torch_fidelity.register_feature_extractor("mean-colours", MeanColours)


@pytest.fixture
def small_extractor(monkeypatch):
    calculate = functools.partial(
        torch_fidelity.calculate_metrics, feature_extractor="mean-colours", kid_subsets=10
    )
    monkeypatch.setattr(torch_fidelity, "calculate_metrics", calculate)


def test_inception_figures_mean_what_they_are_called(small_extractor, tmp_path):
    config = Config(device="cpu", cache_dir=str(tmp_path))
    real, others = spots(400, 0), spots(400, 1)

    def features(pixels):
        return (
            pixels.reshape(-1, 2, 16, 2, 16, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(-1, 12)
        )

    def fid(one, other):
        (mean, covariance), (mean_2, covariance_2) = (
            (each.mean(0), np.cov(each, rowvar=False)) for each in map(features, (one, other))
        )
        root = np.sqrt(np.linalg.eigvals(covariance @ covariance_2).real.clip(0)).sum()
        return ((mean - mean_2) ** 2).sum() + np.trace(covariance + covariance_2) - 2 * root

    same = inception_figures(real, real, "real", config)
    assert abs(same["FID"]) < 1e-3 and same["precision"] == same["recall"] == 1
    assert list(tmp_path.glob("real*"))  # the features of the real ones are kept
    chance = inception_figures(others, real, "real", config)
    dark = inception_figures(spots(400, 1, colours=128), real, "real", config)
    assert chance["FID"] == pytest.approx(fid(others, real), rel=1e-3, abs=1e-3)
    assert dark["FID"] == pytest.approx(fid(spots(400, 1, colours=128), real), rel=1e-3)
    assert abs(chance["KID"]) < dark["KID"] / 10 and chance["+-"] > 0
    # Few faces again and again: each as good as a real one, but they do not cover the real ones.
    collapsed = inception_figures(np.repeat(others[:5], 80, axis=0), real, "real", config)
    assert collapsed["precision"] > 0.5 and collapsed["recall"] < 0.1


def test_gray_images_have_inception_figures_too(small_extractor, tmp_path):
    config = Config(device="cpu", cache_dir=str(tmp_path))
    gray = spots(50, 0)[..., :1]
    assert abs(inception_figures(gray, gray, "gray", config)["FID"]) < 1e-3


def test_without_the_weights_of_inception_one_sentence_says_where_to_get_them(
    tmp_path, monkeypatch
):
    def no_network(*_, **__):
        raise URLError("no network")

    extractor = "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url"
    monkeypatch.setattr(extractor, no_network)
    pixels = spots(16, 0)
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"weights")
    for weights in ("", str(tmp_path / "missing.pth"), str(damaged)):
        config = Config(device="cpu", cache_dir=str(tmp_path), inception_weights=weights)
        with pytest.raises(RunError, match="weights cannot be loaded .* --inception-weights"):
            inception_figures(pixels, pixels, "none", config)


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
    save_checkpoint({"of G": load_checkpoint(names[0])["g_ema_model_state_dict"]}, released)
    measured = evaluate(Config(**settings | {"path_checkpoint": str(released.parent)}))
    assert measured == {REAL: rows[REAL], str(released): rows[names[0]]}

    alone = evaluate(Config(**settings | {"path_checkpoint": names[1]}))
    assert list(alone) == [REAL, names[1]] and alone[names[1]] == rows[names[1]]
    assert alone[REAL] == rows[REAL]
    fewer = evaluate(Config(**settings, num_img=8, seed=2))
    assert fewer[REAL] != rows[REAL]


def test_the_table_and_the_best_go_by_fid_where_there_is_one(settings, small_extractor, capsys):
    rows = evaluate(Config(**settings, inception=True))
    assert list(rows[REAL])[4:] == ["FID", "KID", "+-", "precision", "recall"]
    best = min(list(rows)[1:], key=lambda path: rows[path]["FID"])
    assert f"Best by FID: {best}" in capsys.readouterr().out


def test_the_average_of_the_weights_is_measured_unless_raw_is_asked_for(settings, tmp_path):
    path, checkpoint = newest_checkpoint(settings["path_checkpoint"])
    del checkpoint["g_ema_model_state_dict"]
    torch.save(checkpoint, tmp_path / "raw.pkl")

    def figures(path, **options):
        return evaluate(Config(**settings | {"path_checkpoint": str(path)}, **options))[str(path)]

    alone = figures(tmp_path / "raw.pkl")
    assert figures(path, raw=True) == alone
    assert figures(path) != alone
