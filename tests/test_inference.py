import os
import random

import numpy as np
import pytest
import torch
from PIL import Image

import gan_inference
from common_tools import (
    atomic_write,
    choose_device,
    generate,
    get_random_state,
    load_checkpoint,
    save_checkpoint,
    set_random_state,
    set_seed,
)
from dcgan import Discriminator, Generator
from gan_inference import Config, latent_walk, remove_module, sample

NZ = 12


def run_main():
    sample(gan_inference.tyro.cli(Config))


def grid_of(generator, count=4, seed=1):
    """The picture that seed must give, drawn by hand: rows of 8, a black line between."""
    torch.manual_seed(seed)
    images = generator.eval()(torch.randn(count, generator.main[0].in_channels, 1, 1))
    pixels = ((images * 0.5 + 0.5) * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)
    side = images.shape[-1] + 2
    grid = torch.zeros(3, side + 2, count * side + 2, dtype=torch.uint8)
    for number, image in enumerate(pixels):
        grid[:, 2:side, number * side + 2 : (number + 1) * side] = image
    return grid.permute(1, 2, 0).numpy()


@pytest.fixture
def trained():
    """A generator whose BatchNorm statistics are not those of a new one."""
    torch.manual_seed(3)
    generator = Generator(NZ, 4)
    generator(torch.randn(16, NZ, 1, 1))
    return generator


def with_module(net):
    return {f"module.{key}": value for key, value in net.state_dict().items()}


FORMATS = {
    "ours": lambda net: {
        "epoch": 3,
        "step": 9,
        "g_model_state_dict": net.state_dict(),
        "d_model_state_dict": Discriminator(ndf=4).state_dict(),
        "g_optimizer_state_dict": torch.optim.Adam(net.parameters()).state_dict(),
    },
    "three keys, several GPUs": lambda net: {
        "g_model_state_dict": with_module(net),
        "d_model_state_dict": with_module(Discriminator(ndf=4)),
        "epoch": 19,
    },
    "bare generator": lambda net: net.state_dict(),
    "bare generator, several GPUs": with_module,
    "before BatchNorm counted batches": lambda net: {
        key: value for key, value in net.state_dict().items() if "num_batches" not in key
    },
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_every_known_format_gives_the_grid(trained, tmp_path, call, name, zipped):
    path = tmp_path / "weights.pth"
    torch.save(FORMATS[name](trained), path, _use_new_zipfile_serialization=zipped)
    code, error = call(run_main, "--checkpoint", path, "--num-images", "4")
    assert code == 0, error
    picture = np.asarray(Image.open(tmp_path / "samples/sample1/faces.png"))
    assert np.array_equal(picture, grid_of(trained))


def test_the_newest_run_is_the_default_and_nothing_is_overwritten(
    trained, finished_run, tmp_path, call
):
    code, error = call(run_main)
    assert code == 2 and "train one with python gan_demo.py" in error
    for number in (2, 10):
        save_checkpoint(
            FORMATS["ours"](trained), tmp_path / f"log_gan/run{number}/checkpoint_0_epoch.pkl"
        )
    other = load_checkpoint(finished_run)
    save_checkpoint(other, tmp_path / "log_gan/run9/checkpoint_0_epoch.pkl")
    for number in (1, 2):
        assert call(run_main, "--num-images", "4")[0] == 0
        picture = np.asarray(Image.open(tmp_path / f"samples/sample{number}/faces.png"))
        assert np.array_equal(picture, grid_of(trained))


def test_seeds_give_other_faces(trained, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(trained.state_dict(), path)
    config = {"checkpoint": str(path), "out_dir": str(tmp_path / "samples"), "num_images": 4}
    pictures = [
        (sample(Config(seed=seed, **config)) / "faces.png").read_bytes() for seed in (5, 5, 6)
    ]
    assert pictures[0] == pictures[1] != pictures[2]


def test_a_face_does_not_depend_on_its_neighbours(trained):
    noise = torch.randn(8, NZ, 1, 1)
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    torch.testing.assert_close(generate(trained, noise)[:1], generate(trained, noise[:1]))
    assert trained.training
    assert all(torch.equal(before[key], value) for key, value in trained.state_dict().items())


def test_the_walk_moves_one_coordinate(trained, tmp_path, call):
    noise = torch.randn(1, NZ, 1, 1)
    walk = latent_walk(noise, z_idx=5, step=0.01, num_steps=64)
    others = [index for index in range(NZ) if index != 5]
    assert walk.shape == (64, NZ, 1, 1)
    assert torch.equal(walk[:, others], noise[:, others].expand(64, -1, -1, -1))
    torch.testing.assert_close(walk[1:, 5] - walk[:-1, 5], torch.full((63, 1, 1), 0.01))
    assert torch.equal(walk[32], noise[0])

    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    code, error = call(run_main, "--checkpoint", tmp_path / "weights.pth", "--z-idx", NZ - 1)
    assert code == 0, error
    assert Image.open(tmp_path / "samples/sample1/walk.png").size == (8 * 66 + 2, 8 * 66 + 2)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil_was_here",)


BAD_FILES = {
    "truncated": (lambda path, net: path.write_bytes(path.read_bytes()[:5000]), "can be opened"),
    "empty": (lambda path, net: path.write_bytes(b""), "can be opened"),
    "a text": (lambda path, net: path.write_text("hello"), "can be opened"),
    "code": (lambda path, net: torch.save(Evil(), path), "can be opened"),
    "a whole module": (lambda path, net: torch.save(net, path), "can be opened"),
    "a list": (lambda path, net: torch.save([1, 2], path), "has no generator"),
    "without a generator": (lambda path, net: torch.save({"epoch": 1}, path), "has no generator"),
    "a discriminator": (
        lambda path, net: torch.save(Discriminator(ndf=4).state_dict(), path),
        "holds no DCGAN generator",
    ),
    "another net": (
        lambda path, net: torch.save(torch.nn.Linear(2, 2).state_dict(), path),
        "holds no DCGAN generator",
    ),
    "a missing file": (lambda path, net: path.unlink(), "does not exist"),
    "an empty folder": (lambda path, net: (path.unlink(), path.mkdir()), "has no checkpoint"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_checkpoint_gets_one_sentence(trained, tmp_path, call, name):
    path = tmp_path / "weights.pth"
    torch.save(trained.state_dict(), path)
    spoil, sentence = BAD_FILES[name]
    spoil(path, trained)
    code, error = call(run_main, "--checkpoint", path)
    assert code == 2
    assert str(path) in error and sentence in error and len(error.splitlines()) == 1
    assert not (tmp_path / "samples").exists() and not (tmp_path / "evil_was_here").exists()


def test_bad_constants_get_one_sentence(trained, tmp_path, call):
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    for flags, sentence in [
        (("--z-idx", NZ), f"z_idx is {NZ}; it must be from 0 to {NZ - 1}"),
        (("--z-idx", "-1"), "z_idx is -1"),
        (("--num-images", "0"), "num_images is 0"),
    ]:
        code, error = call(run_main, "--checkpoint", tmp_path / "weights.pth", *flags)
        assert code == 2 and sentence in error and len(error.splitlines()) == 1
    assert not (tmp_path / "samples").exists()


def test_remove_module_leaves_its_input_alone():
    state_dict = {"module.main.0.weight": 1, "main.module.bias": 2}
    assert remove_module(state_dict) == {"main.0.weight": 1, "main.module.bias": 2}
    assert list(state_dict) == ["module.main.0.weight", "main.module.bias"]


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [item.name for item in tmp_path.iterdir()] == ["file"] and path.read_text() == "old"
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_random_states_go_through_a_checkpoint(tmp_path):
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    set_seed(1)
    first = draw()
    save_checkpoint(
        {"g_model_state_dict": {"w": torch.zeros(1)}, "state": get_random_state()}, tmp_path / "c"
    )
    second = draw()
    set_seed()
    assert draw() == first != second
    set_random_state(load_checkpoint(tmp_path / "c")["state"])
    assert draw() == second


def test_the_device_is_the_one_asked_for():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
