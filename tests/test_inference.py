import argparse
import io
import os
import random
from collections import defaultdict
from contextlib import redirect_stdout
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import save_weights
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import gan_inference
import sampling
from common_tools import RunError, choose_device, remove_module
from dcgan import Discriminator, Generator
from gan_inference import Config, latent_loop, latent_walk, sample
from machinery import checkpoints
from machinery.checkpoints import load_checkpoint, load_file
from machinery.files import atomic_write
from sampling import draw_noise, find_net, generate, load_generator

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


def by_name(net):
    """The state dict of a net whose convolutions and BatchNorms are declared apart, by names."""
    state_dict, layers = {}, list(net.main)
    for kind, name in ((torch.nn.ConvTranspose2d, "up"), (torch.nn.BatchNorm2d, "norm")):
        for number, layer in enumerate(layer for layer in layers if isinstance(layer, kind)):
            state_dict |= with_prefix(f"{name}{number}.", layer)
    return state_dict


BESIDE = {
    "epoch": np.int64(3),
    "best": {np.float32(0.5): np.str_("a")},
    "losses": np.arange(5.0),
    "names": np.array(["a", None]),
    "args": argparse.Namespace(lr=0.0002, sizes=[np.int64(64)], out=Path("log")),
    "config": SimpleNamespace(nz=100),
    "when": datetime(2025, 1, 1),
    "took": timedelta(1),
    "history": defaultdict(list, loss=[0.5]),
    "random": (random.getstate(), np.random.get_state(), torch.get_rng_state()),
    "version": torch.__version__,
    "sizes": [torch.Size([3, 64, 64]), {1, 2}, b"bytes", torch.float32],
}

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
    "netG and netD": lambda net: {
        "netD": Discriminator(ndf=4).state_dict(),
        "netG": net.state_dict(),
    },
    "deep inside": lambda net: {"nets": [{"ema": None}, {"model_state_dict": net.state_dict()}]},
    "beside a net of other convolutions": lambda net: {
        "refiner": torch.nn.Sequential(
            *(torch.nn.ConvTranspose2d(3, 3, 3) for _ in "12")
        ).state_dict(),
        "generator": net.state_dict(),
    },
    "without main": lambda net: net.main.state_dict(),
    "net instead of main": lambda net: with_prefix("net.", net.main),
    "several GPUs, twice": lambda net: with_prefix("module.module.", net),
    "layers with names": by_name,
    "both nets in one": lambda net: (
        with_prefix("discriminator.", Discriminator(ndf=4))
        | with_prefix("generator.", net)
        | {"noise": torch.zeros(8, NZ, 1, 1)}
    ),
    "Lightning": lambda net: {
        "epoch": 3,
        "state_dict": with_prefix("G.", net) | with_prefix("D.", Discriminator(ndf=4)),
        "hyper_parameters": {"lr": 0.0002},
    },
    "PyTorch's AveragedModel": lambda net: torch.optim.swa_utils.AveragedModel(net).state_dict(),
    "with all that people keep beside": lambda net: {"net": net.state_dict(), **BESIDE},
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


@pytest.mark.parametrize("first", ["average", "raw"])
def test_of_several_generators_the_one_that_is_taken_is_named(trained, tmp_path, call, first):
    raw, path = Generator(NZ, 4), tmp_path / "several.pth"
    nets = {"netG_EMA": trained.state_dict(), "netG": raw.state_dict(), "best": raw.state_dict()}
    names = list(nets) if first == "average" else list(nets)[::-1]
    torch.save({name: nets[name] for name in names}, path)
    flags = ["--path-checkpoint", path, "--num-img", 4]
    plain = "netG" if first == "average" else "best"
    for number, (flag, name, net) in enumerate(
        [([], "netG_EMA", trained), (["--raw"], plain, raw)]
    ):
        with redirect_stdout(io.StringIO()) as printed:
            assert call(run_main, *flags, *flag)[0] == 0
        listed = f"more than one generator in it ({', '.join(names)}); {name} is taken."
        assert listed in printed.getvalue()
        picture = np.asarray(Image.open(tmp_path / f"samples/sample{number + 1}/faces.png"))
        assert np.array_equal(picture, grid_of(net))


def test_of_several_generators_ours_go_first(trained, capsys):
    raw, other = Generator(NZ, 4), Generator(NZ, 4)
    nets = {"other_ema": other, "other": other, "g_model": raw, "g_ema_model": trained}
    checkpoint = {f"{name}_state_dict": net.state_dict() for name, net in nets.items()}
    for is_raw, net in ((False, trained), (True, raw)):
        taken = sampling.load_generator("path", checkpoint, is_raw).state_dict()
        assert torch.equal(taken["main.0.weight"], net.state_dict()["main.0.weight"])
    assert capsys.readouterr().out.count("is taken") == 2
    del checkpoint["other_ema_state_dict"], checkpoint["other_state_dict"]
    sampling.load_generator("path", checkpoint)
    sampling.load_generator("path", trained.state_dict())
    assert capsys.readouterr().out == ""  # nothing to choose, or as the README has it


@pytest.mark.parametrize("net", [Generator(NZ, 4), Discriminator(ndf=4)])
def test_an_average_without_statistics_is_passed_over(net, capsys):
    whole, average = net.state_dict(), dict(net.named_parameters())
    find = {"path": "path", "net": type(net)}
    found = find_net(checkpoint={"net": whole, "ema": average}, **find).state_dict()
    assert all(torch.equal(found[name], value) for name, value in whole.items())
    assert "(net, ema); net is taken." in capsys.readouterr().out
    ours = {"g_model_state_dict": whole, "g_ema_model_state_dict": average}
    find_net(checkpoint=ours, **find)
    assert "g_model_state_dict is taken." in capsys.readouterr().out
    kind = type(net).__name__.lower()
    with pytest.raises(RunError, match=rf"path holds no DCGAN {kind}: Missing key\(s\)"):
        find_net(checkpoint={"ema": average}, **find)


def in_order(net, order):
    """A net's state dict with its layers in another order, as text or backwards or at random."""
    names = sorted(net.state_dict())
    if order == "backwards":
        names.reverse()
    if order == "shuffled":
        random.Random(1).shuffle(names)
    return {name: net.state_dict()[name] for name in names}


@pytest.mark.parametrize("order", ["as text", "backwards", "shuffled"])
@pytest.mark.parametrize("nz", [NZ, 16, 32])  # also as wide as another layer
def test_nets_are_found_whatever_the_order_of_their_layers(nz, order):
    nets = {"netD": Discriminator(ndf=4), "netG": Generator(nz, 4)}
    for net in nets.values():
        for norm in (layer for layer in net.main if isinstance(layer, torch.nn.BatchNorm2d)):
            torch.nn.init.normal_(norm.weight)
    checkpoint = {name: in_order(net, order) for name, net in nets.items()}
    flat = {f"{name}.{key}": checkpoint[name][key] for name in nets for key in checkpoint[name]}
    for each in (checkpoint, flat):
        for net in nets.values():
            found = find_net("path", each, type(net)).state_dict()
            assert all(torch.equal(found[name], value) for name, value in net.state_dict().items())
        assert len(sampling.nets_in(each, Generator.fits)) == 1
        assert len(sampling.nets_in(each, Discriminator.fits)) == 1


def test_safetensors_whose_names_are_not_in_order_are_opened(trained, tmp_path):
    names = dict(
        zip(
            ["0", "1", "3", "4", "6", "7", "9", "10", "12"],
            ["stem", "bn1", "up", "b2", "mid", "a", "c", "d", "a_last"],
        )
    )
    net = {
        f"{names[key.split('.')[0]]}.{key.split('.')[1]}": value
        for key, value in trained.main.state_dict().items()
    }
    save_file(net, tmp_path / "net.safetensors")
    taken = sampling.load_generator(*sampling.find_checkpoint(tmp_path / "net.safetensors"))
    noise = torch.randn(4, NZ, 1, 1)
    assert torch.equal(generate(taken, noise), generate(trained, noise))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16])
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_weights_of_fewer_bits_are_made_floats(trained, tmp_path, dtype, name):
    few = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in trained.state_dict().items()
    }
    (save_file if "safe" in name else torch.save)(few, tmp_path / name)
    taken = sampling.load_generator(*sampling.find_checkpoint(tmp_path / name)).state_dict()
    assert all(torch.equal(taken[key], few[key].to(taken[key].dtype)) for key in few)
    assert taken["main.0.weight"].dtype == torch.float32
    few["main.3.weight"] = torch.full((32, 16, 4, 4), torch.nan).to(dtype)
    with pytest.raises(RunError, match=r"not finite \(main.3.weight\)"):
        sampling.load_generator("path", few)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8, torch.int64, torch.bool])
def test_weights_that_are_no_real_numbers_are_refused(trained, tmp_path, dtype):
    path = tmp_path / "net.pth"
    torch.save({key: value.to(dtype) for key, value in trained.state_dict().items()}, path)
    with pytest.raises(RunError, match=f"its weights are of {dtype}, not of real floating point"):
        sampling.load_generator(*sampling.find_checkpoint(path))
    mean = {"main.1.running_mean": trained.state_dict()["main.1.running_mean"].to(dtype)}
    with pytest.raises(RunError, match=f"its weights are of {dtype}, not of real floating point"):
        sampling.load_generator("path", trained.state_dict() | mean)


@pytest.mark.parametrize("sizes", [(0, 4, 3), (NZ, 0, 3), (NZ, 4, 0)])
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_weights_without_numbers_are_refused(sizes):
    with pytest.raises(RunError, match="holds no DCGAN generator: it has weights without a number"):
        sampling.load_generator("path", Generator(*sizes).state_dict())


def test_the_search_for_a_generator_ends_whatever_a_file_holds():
    deep, loop = {}, {"\ud800\33": 1}
    loop["loop"] = [loop]
    for _ in range(100_000):
        deep = {"a" * 10_000: deep, (): [deep, deep]}
    with pytest.raises(RunError, match=r"no DCGAN generator in it; its keys are loop\.\.$"):
        sampling.load_generator("path", {"deep": deep, "loop": loop})


@pytest.mark.parametrize("image_size", [64, 128])  # that of 128 has a layer main.10
def test_safetensors_are_opened(tmp_path, capsys, image_size):
    net, path = Generator(NZ, 4, 3, image_size), tmp_path / "net.safetensors"
    generate(net.train(), torch.randn(4, NZ, 1, 1))
    for norm in (layer for layer in net.main if isinstance(layer, torch.nn.BatchNorm2d)):
        torch.nn.init.normal_(norm.weight)
    save_file(net.state_dict(), path)
    taken = sampling.load_generator(*sampling.find_checkpoint(path)).state_dict()
    assert all(torch.equal(taken[key], value) for key, value in net.state_dict().items())
    assert f"{path} is of a format without checksums" in capsys.readouterr().out


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

    save_weights(ours, released / "celeba.pkl")
    assert np.array_equal(drawn(1), grid_of(trained))
    save_weights(other, tmp_path / "log_gan/run9/checkpoint_0_epoch.pkl")
    assert not np.array_equal(drawn(2).shape, grid_of(trained).shape)
    save_weights(other, tmp_path / "log_gan/run10/checkpoint_9_epoch.pkl")
    save_weights(ours | {"step": 10}, tmp_path / "log_gan/run10/checkpoint_10_epoch.pkl")
    (tmp_path / "log_gan/run11").mkdir()  # in its first epoch
    assert np.array_equal(drawn(3), grid_of(trained))
    assert len(list(tmp_path.glob("samples/*"))) == 3  # nothing overwritten


def test_the_released_weights_fit_the_chapters_nets_and_draw_faces_that_differ():
    (path,) = sampling.released()
    assert path.stat().st_size < 26e6
    checkpoint = torch.load(path, weights_only=True)
    generator = Generator(nz=100, ngf=128)
    generator.load_state_dict(checkpoint["g_model_state_dict"])
    faces = generate(generator, next(draw_noise(64, 100, seed=1)))
    discriminator = sampling.find_discriminator(path, checkpoint).eval()  # it lies beside them
    mixed = faces[:, :, torch.arange(64) * 17 % 64]  # their rows
    with torch.no_grad():
        judged = [discriminator(images, logits=True).mean() for images in (faces, mixed)]
    assert judged[0] > judged[1] + 1
    assert faces.std((1, 2, 3)).mean() > 0.3 and faces.std(0).mean() > 0.3


def test_a_run_folder_gives_its_newest_checkpoint(trained, tmp_path, call):
    save_weights(FORMATS["ours"](Generator(NZ, 4)), tmp_path / "run/checkpoint_3_epoch.pkl")
    interrupted = FORMATS["ours"](trained) | {"step": 10}
    save_weights(interrupted, tmp_path / "run/checkpoint_interrupted.pkl")
    assert call(run_main, "--path-checkpoint", tmp_path / "run", "--num-img", "4")[0] == 0
    picture = np.asarray(Image.open(tmp_path / "samples/sample1/faces.png"))
    assert np.array_equal(picture, grid_of(trained))


@pytest.mark.parametrize("name", ["celeba.pkl", "pytorch_model.bin", "model_best.pth.tar", "G.PTH"])
def test_a_folder_gives_the_one_file_of_weights_in_it(trained, tmp_path, call, name):
    save_weights(FORMATS["netG and netD"](trained), tmp_path / "released" / name)
    (tmp_path / "released/README.md").touch()
    (tmp_path / f"released/._{name}").write_bytes(b"what a Mac leaves in a zip")
    assert call(run_main, "--path-checkpoint", tmp_path / "released", "--num-img", "4")[0] == 0
    picture = np.asarray(Image.open(tmp_path / "samples/sample1/faces.png"))
    assert np.array_equal(picture, grid_of(trained))


def test_many_faces_are_drawn_on_pages(trained, tmp_path, call, monkeypatch):
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    pages = []
    monkeypatch.setattr(gan_inference, "save_grid", lambda faces, path: pages.append((faces, path)))
    flags = ["--path-checkpoint", tmp_path / "weights.pth", "--num-img"]
    for number, count in enumerate([512, 513], 1):
        assert call(run_main, *flags, count)[0] == 0
    (whole, path), *parts = pages
    assert path == Path("samples/sample1/faces.png") and len(whole) == 512
    names = [f"samples/sample2/faces_{number}.png" for number in (1, 2, 3)]
    assert [str(path) for _, path in parts] == names
    assert [len(faces) for faces, _ in parts] == [256, 256, 1]
    assert torch.equal(torch.cat([faces for faces, _ in parts])[:512], whole)


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


def test_an_average_is_told_by_a_word_of_its_name():
    for name in ("g_ema_model_state_dict", "netG.avg", "generatorEMA", "averaged_model", "Ema0"):
        assert sampling.is_average(name)
    for name in ("female", "training_schema.net", "netG", "savage"):
        assert not sampling.is_average(name)


def encoder(*widths):
    """The convolutions of BiGAN's encoder, from an image to its latent vector (a DCGAN's D, wider)."""
    layers = []
    for width_in, width in pairwise(widths):
        layers += [nn.Conv2d(width_in, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width)]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_of_two_the_one_in_order_is_the_generator(tmp_path, kind):
    """Names in safetensors are sorted, which mixes an encoder's layers up."""
    weights = encoder(3, 8, 16, 32, 12).state_dict()
    names = dict(zip(["0", "2", "4", "6"], ["in_conv", "down1", "down2", "out_conv"]))
    mixed = {f"E.{names.get(key[0], 'norm' + key[0])}{key[1:]}": weights[key] for key in weights}
    mixed = {name: mixed[name] for name in sorted(mixed)}
    real = Generator(12, 8, 3, 32)
    both = mixed | {f"G.{name}": value for name, value in real.state_dict().items()}
    path = tmp_path / f"both.{kind}"
    save_file(both, path) if kind == "safetensors" else torch.save(both, path)
    found = load_generator(path, load_file(path)).state_dict()
    assert all(value.equal(found[name]) for name, value in real.state_dict().items())


@pytest.mark.parametrize("names", [("netE", "netG"), ("netG", "netE"), ("netE", "netG", "netD")])
def test_an_encoder_is_neither_generator_nor_discriminator(tmp_path, capsys, names):
    nets = {
        "netE": encoder(3, 8, 16, 32, 12),
        "netG": Generator(12, 8, 3, 32),
        "netD": Discriminator(3, 8, 32),
    }
    path = tmp_path / "all.pth"
    torch.save({name: nets[name].state_dict() for name in names}, path)
    generator = load_generator(path, load_file(path))
    expected = nets["netG"].state_dict()
    assert all(value.equal(expected[name]) for name, value in generator.state_dict().items())
    assert "more than one" not in capsys.readouterr().out
    net_d = find_net(path, load_file(path), Discriminator)
    assert (net_d is not None) == ("netD" in names)


@pytest.mark.parametrize("names", ["netG_epoch_9.pth netD_epoch_9.pth", "faces_d.pt faces.pt"])
def test_a_generator_and_its_discriminator_may_lie_in_a_folder(trained, tmp_path, names):
    for name in names.split():
        net = Discriminator(ndf=4) if "netD" in name or "_d" in name else trained
        torch.save(net.state_dict(), tmp_path / name)
    taken = load_generator(*sampling.find_checkpoint(tmp_path)).state_dict()
    assert all(torch.equal(taken[key], value) for key, value in trained.state_dict().items())
    torch.save(trained.state_dict(), tmp_path / "netG_epoch_10.pth")
    with pytest.raises(RunError, match="more than one file of weights"):
        sampling.find_checkpoint(tmp_path)


def test_an_encoder_alone_is_no_generator(tmp_path):
    torch.save(encoder(3, 8, 16, 32, 12).state_dict(), tmp_path / "e.pth")
    with pytest.raises(RunError, match="has no DCGAN generator in it"):
        load_generator(tmp_path / "e.pth", load_file(tmp_path / "e.pth"))


@pytest.mark.parametrize(
    "path",
    sorted({*sampling.RELEASED.glob("*.pkl")} - {*sampling.RELEASED.glob("celeba*.pkl")}),
    ids=lambda path: path.stem,
)
def test_what_an_application_has_trained_is_no_dcgan(path):
    with pytest.raises(RunError, match="no DCGAN generator.* another script has trained it"):
        load_generator(path, load_file(path))
    assert find_net(path, load_file(path), Discriminator) is None


def test_two_calls_never_write_over_each_others_faces(trained, tmp_path, call, monkeypatch):
    save_weights({"g_model_state_dict": trained.state_dict(), "epoch": 0}, tmp_path / "g.pkl")
    faces = tmp_path / "faces"
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(()))  # each finds the folder empty
    faces.mkdir()
    (faces / "000001.png").write_bytes(b"of another call")
    flags = ["--path-checkpoint", tmp_path / "g.pkl", "--save-images", faces, "--num-img", 3]
    code, error = call(run_main, *flags)
    assert code == 2 and "faces could not be written (File exists)" in error
    assert "free some space" not in error
    assert (faces / "000001.png").read_bytes() == b"of another call"


def test_a_full_disk_leaves_no_broken_faces(trained, tmp_path, call, monkeypatch):
    save_weights({"g_model_state_dict": trained.state_dict(), "epoch": 0}, tmp_path / "g.pkl")
    saved, save = [], Image.Image.save

    def with_room_for_three(self, file, **options):
        saved.append(file)
        if len(saved) > 3:
            file.write(b"the beginning")
            raise OSError(28, "No space left on device")
        save(self, file, **options)

    monkeypatch.setattr(Image.Image, "save", with_room_for_three)
    faces = ["--save-images", tmp_path / "faces", "--num-img", 70]
    code, error = call(run_main, "--path-checkpoint", tmp_path / "g.pkl", *faces)
    assert code == 2 and "free some space or choose another folder" in error
    kept = list((tmp_path / "faces").iterdir())
    assert len(kept) == 3 and all(Image.open(path).size == (64, 64) for path in kept)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_no_checkpoint_and_not_waited_for(tmp_path, call):
    os.mkfifo(tmp_path / "pipe.pth")
    code, error = call(run_main, "--path-checkpoint", tmp_path / "pipe.pth")
    assert code == 2 and "pipe.pth does not exist" in error


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(trained, tmp_path, monkeypatch):
    torch.save(trained.state_dict(), tmp_path / "g.pth")

    def forbidden(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(checkpoints, "open", forbidden, raising=False)
    with pytest.raises(PermissionError):  # run_as_script makes a sentence of it
        load_file(tmp_path / "g.pth")
