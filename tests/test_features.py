"""Figures by trained nets: each by the right net, with its own file; nothing is fetched here."""

import math
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch_fidelity
import torchvision
from torch_fidelity import feature_extractor_inceptionv3
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from common_tools import RunError
from gan_evaluate import Config
from machinery.features import FIGURES, NETS, feature_figures, usable_nets


def spots(count, seed, colours=256, side=32):
    """uint8 images (count, side, side, 3), each of one blurred spot with a colour of its own."""
    random = np.random.default_rng(seed)
    axis = np.linspace(-1, 1, side)
    x, y = random.uniform(-0.6, 0.6, (2, count, 1, 1))
    bright = np.exp(-8 * ((axis - x) ** 2 + (axis[:, None] - y) ** 2))
    colour = random.integers(0, colours, (count, 1, 1, 3))
    return (bright[..., None] * colour).astype(np.uint8)


class MeanColours(FeatureExtractorBase):
    """A small stand-in for a trained net: mean colours of the quarters of an image."""

    def __init__(self, name, features_list, **_):
        super().__init__(name, features_list)

    @staticmethod
    def get_provided_features_list():
        return ("colours",)

    @staticmethod
    def get_default_feature_layer_for_metric(_):
        return "colours"

    def forward(self, images):
        assert images.shape[1] == 3  # as the trained nets ask for
        return (torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1),)


def stand_in(monkeypatch, *names):
    """Let MeanColours stand in for these nets, or for all."""
    for name in names or [net.name for net in NETS]:
        monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, name, MeanColours)
    calculate = partial(torch_fidelity.calculate_metrics, kid_subsets=10)
    monkeypatch.setattr(torch_fidelity, "calculate_metrics", calculate)


def cut_network(monkeypatch):
    """Without a network, and without what was downloaded before."""

    def urlopen(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", urlopen)
    monkeypatch.setenv("TORCH_HOME", tempfile.mkdtemp())


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    cut_network(monkeypatch)


# --- the real nets


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Files of weights for the real nets, as {constant: path}.

    VGG16's own file has 553 MB. These have the same tensors, but each lies over a few random
    numbers, again and again, so that they take less than 1 MB.
    """
    with (
        torch.device("meta"),
        patch.object(feature_extractor_inceptionv3, "load_state_dict_from_url"),
        patch.object(FeatureExtractorInceptionV3, "load_state_dict"),
    ):
        nets = FeatureExtractorInceptionV3("", ["2048"]), torchvision.models.vgg16()
    random, paths = torch.Generator().manual_seed(0), {}
    for net, model in zip(NETS, nets, strict=True):
        state = {}
        for name, tensor in model.state_dict().items():
            if tensor.ndim > 1:
                few = torch.randn(sum(tensor.shape), generator=random)
                few /= math.sqrt(tensor[0].numel())
                state[name] = few.as_strided(tensor.shape, [1] * tensor.ndim)
            else:
                fill = torch.ones if name.endswith(("weight", "var")) else torch.zeros
                state[name] = fill(tensor.shape, dtype=tensor.dtype)
        paths[net.constant] = tmp_path_factory.mktemp("weights") / f"{net.name}.pth"
        torch.save(state, paths[net.constant])
    return {constant: str(path) for constant, path in paths.items()}


def test_offline_the_real_nets_take_the_files_of_their_weights(weights, tmp_path):
    config = Config(device="cpu", cache_dir=str(tmp_path), **weights)
    nets = usable_nets(config)
    assert nets == NETS
    found = feature_figures(spots(4, 0), spots(4, 1), nets, config)
    assert list(found) == list(FIGURES) and np.isfinite(list(found.values())).all()
    assert found["FID"] > 0 and 0 <= found["precision"] <= 1 and 0 <= found["recall"] <= 1
    for layer, size in (("compat-features-2048", 2048), ("vgg16-features-fc2_relu", 4096)):
        (kept,) = tmp_path.glob(f"*-{layer}.pt")
        features = torch.load(kept)
        assert features.shape == (4, size) and len(features.unique(dim=0)) == 4


def test_offline_one_file_gives_the_figures_of_its_net(weights, capsys):
    for net, other in (NETS, NETS[::-1]):
        assert usable_nets(Config(**{net.constant: weights[net.constant]})) == [net]
        note = f"Going on without {other.figures}, since the weights of {other.title} cannot be "
        note += f"loaded from the network (<urlopen error no network>); get {other.url} and name"
        assert capsys.readouterr().out.startswith(note)
    with pytest.raises(RunError, match="weights of Inception .* --inception-weights"):
        usable_nets(Config())


class Code:
    def __reduce__(self):
        return Path.touch, (Path("has run"),)


def test_a_file_of_anything_else_is_refused_in_a_sentence(weights, tmp_path):
    others = {"code": Code(), "list": [1, 2], "a_net": torch.nn.Linear(2, 2), "none": {}}
    for name, content in others.items():
        torch.save(content, tmp_path / f"{name}.pth")
    (tmp_path / "damaged.pth").write_bytes(b"weights")
    for net, other in (NETS, NETS[::-1]):
        for path in [weights[other.constant], "missing.pth", "damaged.pth"] + [
            f"{name}.pth" for name in others
        ]:
            flag = "--" + net.constant.replace("_", "-")
            with pytest.raises(RunError) as caught:
                usable_nets(Config(**weights | {net.constant: path}))
            sentence = str(caught.value)
            assert sentence.startswith(f"the weights of {net.title} cannot be loaded from {path} (")
            assert sentence.endswith(f"; get {net.url} and name the file with {flag}.")
            assert len(sentence) < 400
    assert not Path("has run").exists()


def test_the_addresses_are_those_that_torch_fidelity_loads_from():
    assert [net.url for net in NETS] == [
        feature_extractor_inceptionv3.URL_INCEPTION_V3,
        torchvision.models.VGG16_Weights.IMAGENET1K_V1.url,
    ]


# --- the figures


def test_figures_mean_what_they_are_called(monkeypatch, tmp_path):
    stand_in(monkeypatch)
    config = Config(device="cpu", cache_dir=str(tmp_path))
    real, others = spots(400, 0), spots(400, 1)

    def figures(pixels):
        return feature_figures(pixels, real, NETS, config)

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

    same = figures(real)
    assert abs(same["FID"]) < 1e-3 and same["precision"] == same["recall"] == 1
    kept = sorted(tmp_path.iterdir())  # the features of the real ones
    chance, dark = figures(others), figures(spots(400, 1, colours=128))
    assert kept == sorted(tmp_path.iterdir()) != []
    assert chance["FID"] == pytest.approx(fid(others, real), rel=1e-3, abs=1e-3)
    assert dark["FID"] == pytest.approx(fid(spots(400, 1, colours=128), real), rel=1e-3)
    assert abs(chance["KID"]) < dark["KID"] / 10 and chance["+-"] > 0
    # Few faces again and again: each as good as a real one, but they do not cover the real ones.
    collapsed = figures(np.repeat(others[:5], 80, axis=0))
    assert collapsed["precision"] > 0.5 and collapsed["recall"] < 0.1
    # What is kept is of these real images only.
    assert abs(feature_figures(others, others, NETS, config)["FID"]) < 1e-3


def test_gray_images_have_figures_too(monkeypatch, tmp_path):
    stand_in(monkeypatch)
    config = Config(device="cpu", cache_dir=str(tmp_path))
    gray = spots(50, 0)[..., :1]
    assert abs(feature_figures(gray, gray, NETS, config)["FID"]) < 1e-3
