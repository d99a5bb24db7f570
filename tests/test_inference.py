from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gan_inference
import sampling
from common_tools import choose_device, remove_module
from dcgan import Discriminator, Generator
from gan_inference import Config, latent_loop, latent_walk, sample
from machinery.checkpoints import load_checkpoint, save_checkpoint
from machinery.files import atomic_write
from sampling import draw_noise, generate

NZ = 12


def run_main():
    sample(gan_inference.tyro.cli(Config))


def grid_of(generator, count=4, seed=1):
    """The picture that seed must give, drawn by hand: one row, a black line around each face."""
    torch.manual_seed(seed)
    images = generator.eval()(torch.randn(64, generator.main[0].in_channels, 1, 1))[:count]
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


def with_prefix(prefix, net):
    return {f"{prefix}{key}": value for key, value in net.state_dict().items()}


FORMATS = {
    "ours": lambda net: {
        "epoch": 3,
        "step": 9,
        "g_model_state_dict": net.state_dict(),
        "d_model_state_dict": Discriminator(ndf=4).state_dict(),
        "g_optimizer_state_dict": torch.optim.Adam(net.parameters()).state_dict(),
    },
    "three keys, several GPUs": lambda net: {
        "g_model_state_dict": with_prefix("module.", net),
        "d_model_state_dict": with_prefix("module.", Discriminator(ndf=4)),
        "epoch": 19,
    },
    "bare generator": lambda net: net.state_dict(),
    "bare generator, several GPUs": lambda net: with_prefix("module.", net),
    "compiled": lambda net: with_prefix("_orig_mod.", net),
    "compiled, several GPUs": lambda net: with_prefix("module._orig_mod.", net),
    "before BatchNorm counted batches": lambda net: {
        key: value for key, value in net.state_dict().items() if "num_batches" not in key
    },
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_every_known_format_gives_the_grid(trained, tmp_path, call, name, zipped):
    path = tmp_path / "weights.pth"
    torch.save(FORMATS[name](trained), path, _use_new_zipfile_serialization=zipped)
    code, error = call(run_main, "--path-checkpoint", path, "--num-img", "4")
    assert code == 0, error
    picture = np.asarray(Image.open(tmp_path / "samples/sample1/faces.png"))
    assert np.array_equal(picture, grid_of(trained))


def test_the_average_of_the_weights_draws_unless_raw_is_asked_for(trained, tmp_path, call):
    raw = Generator(NZ, 4)
    states = {"g_model_state_dict": raw.state_dict()}
    states["g_ema_model_state_dict"] = with_prefix("module.", trained)
    torch.save(states, tmp_path / "averaged.pkl")
    flags = ["--path-checkpoint", tmp_path / "averaged.pkl", "--num-img", 4]
    assert call(run_main, *flags) == call(run_main, *flags, "--raw") == (0, "")
    for number, generator in [(1, trained), (2, raw)]:
        picture = np.asarray(Image.open(tmp_path / f"samples/sample{number}/faces.png"))
        assert np.array_equal(picture, grid_of(generator))


def test_the_default_is_the_newest_run_then_the_released_weights(
    trained, finished_run, tmp_path, call, monkeypatch
):
    released = tmp_path / "released"
    monkeypatch.setattr(sampling, "RELEASED", released)
    code, error = call(run_main)
    assert code == 2 and "train one with python gan_demo.py" in error
    ours, other = FORMATS["ours"](trained), load_checkpoint(finished_run / "checkpoint_2_epoch.pkl")

    def drawn(number):
        assert call(run_main, "--num-img", "4")[0] == 0
        return np.asarray(Image.open(tmp_path / f"samples/sample{number}/faces.png"))

    save_checkpoint(ours, released / "celeba.pkl")
    assert np.array_equal(drawn(1), grid_of(trained))
    save_checkpoint(other, tmp_path / "log_gan/run9/checkpoint_0_epoch.pkl")
    assert not np.array_equal(drawn(2).shape, grid_of(trained).shape)
    save_checkpoint(other, tmp_path / "log_gan/run10/checkpoint_9_epoch.pkl")
    save_checkpoint(ours | {"step": 10}, tmp_path / "log_gan/run10/checkpoint_10_epoch.pkl")
    (tmp_path / "log_gan/run11").mkdir()  # in its first epoch
    assert np.array_equal(drawn(3), grid_of(trained))
    assert len(list(tmp_path.glob("samples/*"))) == 3  # nothing overwritten


def test_the_released_weights_fit_the_chapters_nets_and_draw_faces_that_differ():
    (path,) = sampling.RELEASED.glob("*.pkl")
    assert path.stat().st_size < 26e6
    checkpoint = torch.load(path, weights_only=True)
    generator, discriminator = Generator(nz=100, ngf=64), Discriminator(ndf=64)
    generator.load_state_dict(checkpoint["g_model_state_dict"])
    discriminator.load_state_dict(checkpoint["d_model_state_dict"])
    faces = generate(generator, next(draw_noise(64, 100, seed=1)))
    assert faces.std((1, 2, 3)).mean() > 0.3 and faces.std(0).mean() > 0.3


def test_a_run_folder_gives_its_newest_checkpoint(trained, tmp_path, call):
    save_checkpoint(FORMATS["ours"](Generator(NZ, 4)), tmp_path / "run/checkpoint_3_epoch.pkl")
    interrupted = FORMATS["ours"](trained) | {"step": 10}
    save_checkpoint(interrupted, tmp_path / "run/checkpoint_interrupted.pkl")
    assert call(run_main, "--path-checkpoint", tmp_path / "run", "--num-img", "4")[0] == 0
    picture = np.asarray(Image.open(tmp_path / "samples/sample1/faces.png"))
    assert np.array_equal(picture, grid_of(trained))


def test_the_nth_face_of_a_seed_is_always_the_same():
    few, many = list(draw_noise(3, NZ, seed=5)), list(draw_noise(130, NZ, seed=5))
    assert [len(block) for block in many] == [64, 64, 64] and torch.equal(few[0], many[0])
    assert not torch.equal(many[0], many[1])
    assert not torch.equal(few[0], next(draw_noise(3, NZ, seed=6)))


def test_single_files_are_the_faces_of_the_grid(trained, tmp_path, call, monkeypatch):
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    flags = [
        "--path-checkpoint",
        tmp_path / "weights.pth",
        "--num-img",
        67,
        "--save-images",
        "faces",
    ]
    sizes, generate_block = [], gan_inference.generate
    monkeypatch.setattr(
        gan_inference,
        "generate",
        lambda net, noise: sizes.append(len(noise)) or generate_block(net, noise),
    )
    assert call(run_main, *flags)[0] == 0
    files = sorted((tmp_path / "faces").iterdir())
    assert [file.name for file in files] == [f"{number:06d}.png" for number in range(67)]
    assert sizes == [64, 64]  # never more at once, however many faces
    grid = grid_of(trained)
    for number in range(4):
        face = grid[2:66, 66 * number + 2 : 66 * number + 66]
        assert np.array_equal(np.asarray(Image.open(files[number])), face)
    assert not (tmp_path / "samples").exists()
    before = files[0].read_bytes()
    code, error = call(run_main, *flags, "--seed", 2)
    assert code == 2 and "has files in it already" in error and files[0].read_bytes() == before


def test_a_face_does_not_depend_on_its_neighbours(trained):
    noise = torch.randn(8, NZ, 1, 1)
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    torch.testing.assert_close(generate(trained, noise)[:1], generate(trained, noise[:1]))
    assert trained.training
    assert all(torch.equal(before[key], value) for key, value in trained.state_dict().items())


def test_the_walk_moves_one_coordinate_from_minus_3_to_3():
    noise = torch.randn(1, NZ, 1, 1)
    walk = latent_walk(noise, z_idx=5, steps=61)
    others = [index for index in range(NZ) if index != 5]
    assert walk.shape == (61, NZ, 1, 1)
    assert torch.equal(walk[:, others], noise[:, others].expand(61, -1, -1, -1))
    torch.testing.assert_close(walk[:, 5, 0, 0], torch.arange(-30, 31) / 10)


def test_the_loop_goes_through_all_faces_and_keeps_their_distance():
    noise = torch.randn(3, 100, 1, 1)
    noise = noise / noise.norm(dim=1, keepdim=True) * 10
    loop = latent_loop(noise, steps=16)
    assert loop.shape == (48, 100, 1, 1)
    torch.testing.assert_close(loop[::16], noise)
    torch.testing.assert_close(loop.norm(dim=1), torch.full((48, 1, 1), 10.0))
    strides = (loop.roll(-1, dims=0) - loop).flatten(1).norm(dim=1).reshape(3, 16)
    torch.testing.assert_close(strides, strides[:, :1].expand(-1, 16))  # even, the last one too


def test_walk_and_loop_are_written_and_shown(trained, tmp_path, call, monkeypatch):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda picture: shown.append(picture.size))
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    flags = ["--path-checkpoint", tmp_path / "weights.pth", "--walk", NZ - 1, "--interpolate"]
    code, error = call(run_main, *flags)
    assert code == 0, error
    assert not shown
    folder = tmp_path / "samples/sample1"
    assert Image.open(folder / "walk.png").size == (13 * 66 + 2, 66 + 2)
    assert Image.open(folder / "walk.gif").n_frames == 61
    assert Image.open(folder / "interpolation.gif").n_frames == 8 * 16
    assert call(run_main, *flags[:2], "--show")[0] == 0
    assert shown == [(8 * 66 + 2, 8 * 66 + 2)]


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
    before = path.stat().st_ino
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_ino != before  # renamed, not written over


def test_a_file_that_another_process_finishes_meanwhile_is_no_obstacle(tmp_path, monkeypatch):
    gone = tmp_path / "file.of_another_process.partial"
    monkeypatch.setattr(Path, "glob", lambda *_: [gone])
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_the_device_is_the_one_asked_for():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
