"""Progressive GAN: it grows as it should, goes on to the same end, is used, and its figures hold."""

import itertools
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import assert_same_run, save_images
from faults.test_sentences import contents, matches, rows
from PIL import Image

import gan_demo
from applications import common, progan
from common_tools import run_as_script
from dcgan import Generator
from machinery.checkpoints import save_checkpoint
from machinery.constants import saved_config
from machinery.figures import descriptors, swd

SMALL = {"image_size": 16, "width": 8, "nz": 5, "fade_epochs": 1, "hold_epochs": 1}


def small_config(images, folder, **changes):
    places = {"data_dir": images, "cache_dir": folder / "cache", "out_dir": folder / "runs"}
    places = {name: str(path) for name, path in places.items()}
    sizes = SMALL | {"num_epochs": 5, "batch_size": 8, "device": "cpu", "keep_checkpoints": 0}
    return progan.Config(**places | sizes | changes)


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    """A run that nothing interrupted, of three iterations an epoch."""
    return progan.train(small_config(images, tmp_path_factory.mktemp("progan")))


def use(run, folder, **constants):
    config = progan.Use("noise", str(folder), path_checkpoint=str(run), device="cpu", **constants)
    return [path.name for path in progan.use(config)]


# --- growing


@pytest.mark.parametrize("kill_after", [4, 10])  # iterations: in both fades
def test_killed_it_goes_on_to_the_same_end(run, images, tmp_path, monkeypatch, kill_after):
    class Killed(BaseException):
        pass

    config, steps, step = small_config(images, tmp_path), itertools.count(), progan.train_step

    def killing_step(*arguments):
        if next(steps) == kill_after:
            raise Killed
        return step(*arguments)

    monkeypatch.setattr(progan, "train_step", killing_step)
    with pytest.raises(Killed):
        progan.train(config)
    monkeypatch.undo()
    resumed = progan.train(saved_config(progan.Config, "latest", config.out_dir))
    assert_same_run(resumed, run)
    for name in ("figures.json", "growth.png"):
        assert (resumed / name).read_bytes() == (run / name).read_bytes()


def test_stopped_in_a_fade_it_goes_on_there(run, images, tmp_path, monkeypatch):
    """Ctrl-C in the second of three iterations: its growth is neither lost nor counted twice."""
    seen, step = [], progan.train_step

    def stopping_step(*arguments):
        seen.append(arguments[-1])
        if len(seen) == 5:
            progan.signal.raise_signal(progan.signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(progan, "train_step", stopping_step)
    config = small_config(images, tmp_path)
    with pytest.raises(SystemExit):
        progan.train(config)
    resumed = progan.train(saved_config(progan.Config, "latest", config.out_dir))
    thirds = [0, 0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1, 1, 4 / 3, 5 / 3, 2, 2, 2]
    assert seen == pytest.approx(thirds)
    assert_same_run(resumed, run)


def test_each_level_is_faded_in_and_held():
    config = progan.Config(image_size=32, fade_epochs=2, hold_epochs=3)
    found = [progan.grown(epoch, config)[0] for epoch in (0, 2.9, 3, 3.5, 5, 8, 9, 10, 13, 14)]
    assert found == pytest.approx([0, 0, 0, 0.25, 1, 1, 1.5, 2, 2, 2.5])
    assert progan.grown(15, config)[0] == progan.grown(1e9, config)[0] == 3
    assert [progan.grown(epoch, config)[1] for epoch in (3, 4.5, 7.5, 8, 13, 19)] == [
        0, 1.5, 4.5, 0, 0, 6
    ]  # fmt: skip
    assert progan.levels(0.0) == (0, 1) and progan.levels(2.0) == (2, 1)
    assert progan.levels(1.25) == (2, 0.25)


def test_the_finest_colours_are_drawn_at_half_the_sides():
    """Once it is grown, and when it is used; what is light and dark stays as it was trained."""
    torch.manual_seed(0)
    net, noise = progan.Generator(5, progan.widths_of(8, 16)).double(), torch.randn(3, 5, 1, 1)
    for growth in (1, 1.5, 2):
        net.growth.fill_(growth)
        trained, drawn = net.train()(noise.double()), net.eval()(noise.double())
        if growth == 1:
            assert torch.equal(trained, drawn)
            continue
        gray = trained.mean(1, keepdim=True)
        assert torch.allclose(drawn.mean(1, keepdim=True), gray)
        colours = (drawn - gray).unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (3, 3, 8, 2, 8, 2)
        mean = (trained - gray).unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5), True)
        assert torch.allclose(colours, mean.expand_as(colours)) and not torch.allclose(
            trained, drawn
        )


@pytest.mark.parametrize("net", ["generator", "critic", "real"])
def test_a_level_comes_in_without_a_jump(net):
    """With a share of nothing all is as before, only larger; with all of it the old way is gone."""
    torch.manual_seed(0)
    widths = progan.widths_of(8, 32)
    generator, critic = progan.Generator(5, widths).double(), progan.Critic(widths).double()
    noise, images = torch.randn(3, 5, 1, 1).double(), torch.randn(3, 3, 32, 32).double()

    def at(growth):
        if net == "critic":
            return critic(progan.as_grown(images, growth), growth)
        generator.growth.fill_(growth)
        return generator(noise) if net == "generator" else progan.as_grown(images, growth)

    for level in (0, 1, 2):
        before, begun, half, done = (at(level + share) for share in (0, 1e-9, 0.5, 1))
        if net != "critic":
            assert done.shape == (3, 3, 8 * 2**level, 8 * 2**level)
            before = F.interpolate(before, scale_factor=2)
            assert torch.allclose(half, (before + done) / 2)
        assert torch.allclose(begun, before, atol=1e-6) and not torch.allclose(half, begun)
        assert not torch.allclose(done, half)


def test_resizing_convolutions_are_those_of_the_paper():
    torch.manual_seed(0)
    images = torch.randn(2, 5, 8, 8).double()
    for resize in ("up", "down"):
        layer = progan.Conv(5, 7, resize=resize).double()
        torch.nn.init.normal_(layer.bias)
        given = F.interpolate(images, scale_factor=2) if resize == "up" else images
        weight = layer.weight * (2 / 45) ** 0.5
        wanted = F.conv2d(given, weight, layer.bias, padding=1)
        wanted = F.avg_pool2d(wanted, 2) if resize == "down" else wanted
        assert torch.allclose(layer(images), wanted)


def test_the_critic_sees_that_images_are_alike():
    torch.manual_seed(0)
    critic, images = progan.Critic(progan.widths_of(8, 16)), torch.randn(4, 3, 16, 16)
    alone = torch.cat([critic(image[None], 2.0) for image in images])
    assert not torch.allclose(critic(images, 2.0), alone, atol=1e-3)
    alike = images[:1].repeat(4, 1, 1, 1)
    assert torch.allclose(critic(alike, 2.0), alone[:1].expand(4, 1, 1, 1), atol=1e-5)


def test_a_step_written_out_again():
    """The losses and their gradients with nothing shared, in float64."""
    torch.manual_seed(0)
    widths = progan.widths_of(8, 16)
    net, critic = progan.Generator(5, widths).double(), progan.Critic(widths).double()
    real = torch.rand(8, 3, 16, 16).double() * 2 - 1
    config = progan.Config(nz=5, bf16=False, penalty=7.0, drift=0.2)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.0) for each in (net, critic)]
    net.growth.fill_(1.3)
    torch.manual_seed(1)
    numbers = progan.train_step(real, net, critic, optimizers, config, 1.3)
    torch.manual_seed(1)
    made = net(torch.randn(8, 5, 1, 1, dtype=torch.float64))
    places = torch.rand(2, 1, 1, 1, dtype=torch.float64)
    coarse = F.interpolate(F.avg_pool2d(real, 2), scale_factor=2)
    real = 0.3 * real + 0.7 * coarse
    assert made.shape == (8, 3, 16, 16)
    between = (places * real[:2] + (1 - places) * made[:2]).detach().requires_grad_()
    slope = torch.autograd.grad(critic(between, 1.3).sum(), between, create_graph=True)[0]
    slopes = (slope**2).sum((1, 2, 3)).sqrt()
    penalty = ((slopes - 1) ** 2).mean()
    of_real, of_made = critic(real, 1.3), critic(made, 1.3)
    loss_d = (of_made - of_real).mean() + 7 * penalty + 0.2 * (of_real**2).mean()
    expected = torch.stack([loss_d, -of_made.mean(), penalty]).float()
    assert torch.allclose(numbers[:3], expected, rtol=1e-4) and numbers[3] == pytest.approx(0.3)
    for total, weight in (
        (loss_d, critic.levels[1][0].weight),
        (loss_d, critic.from_rgb[1][0].weight),
        (-of_made.mean(), net.levels[1][0].weight),
    ):
        (gradient,) = torch.autograd.grad(total, weight, retain_graph=True)
        assert gradient.abs().max() > 0
        assert torch.allclose(weight.grad, gradient, rtol=1e-4, atol=1e-10)
    assert net.to_rgb[0].weight.grad is None and critic.levels[2][0].weight.grad is not None


def test_the_average_begins_anew_with_each_level(run, images, tmp_path, monkeypatch):
    """Iterations since the fade began; the first level counts as if it had been faded in, too."""
    steps, set_share = [], progan.WeightAverage.set_share

    def watched(average, step):
        steps.append(step)
        set_share(average, step)

    monkeypatch.setattr(progan.WeightAverage, "set_share", watched)
    assert_same_run(progan.train(small_config(images, tmp_path)), run)
    assert steps == pytest.approx([3, 4, 5, *range(6), *range(6)])


def test_adam_is_the_papers(images, tmp_path, monkeypatch):
    seen, step = [], progan.train_step

    def watched(*arguments):
        groups = [optimizer.param_groups[0] for optimizer in arguments[3]]
        seen.extend((float(group["lr"]), *group["betas"]) for group in groups)
        return step(*arguments)

    monkeypatch.setattr(progan, "train_step", watched)
    progan.train(small_config(images, tmp_path, lr=0.003))
    assert seen == [(pytest.approx(0.003), 0.0, 0.99)] * 30


# --- pictures and figures


def test_the_pictures_grow(run):
    """All are as large as the last; those of a small level show large pixels."""
    for epoch, level in enumerate([0, 1, 1, 2, 2]):
        picture = np.asarray(Image.open(run / f"epoch_{epoch:03d}.png"))
        assert picture.shape == (8 * 18 + 2, 8 * 18 + 2, 3)
        face, factor = picture[2:18, 2:18], 16 // (4 * 2**level)
        assert (face == face[::factor, ::factor].repeat(factor, 0).repeat(factor, 1)).all()
        assert (
            level == 2
            or (
                face
                != face[:: 2 * factor, :: 2 * factor].repeat(2 * factor, 0).repeat(2 * factor, 1)
            ).any()
        )
    growth = np.asarray(Image.open(run / "growth.png"))
    assert growth.shape == (3 * 18 + 2, 8 * 18 + 2, 3)
    for row, epoch in enumerate([0, 2, 4]):
        picture = np.asarray(Image.open(run / f"epoch_{epoch:03d}.png"))
        assert (growth[18 * row : 18 * row + 18] == picture[:18]).all()


def test_a_picture_that_is_gone_ends_nothing(run, tmp_path, images):
    for name, content in [("epoch_000.png", b""), ("epoch_004.png", None)]:
        (tmp_path / name).write_bytes((run / name).read_bytes() if content is None else content)
    grid = progan.picture_of_growth(tmp_path, small_config(images, tmp_path))
    assert grid.size == (8 * 18 + 2, 3 * 18 + 2) and grid.crop((0, 0, 146, 36)).getbbox() is None


def test_the_figures(run, images):
    """Of what the checkpoint draws, and of the images as they were, read again."""
    kept = json.loads((run / "figures.json").read_text())
    faces = [Image.open(path).resize((16, 19), 2) for path in sorted(images.iterdir())]
    faces = np.stack([face.crop((0, 2, 16, 18)) for face in faces])
    config = progan.Use("noise", "", path_checkpoint=str(run))
    net = common.load_net(config, "progan", progan.build)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        made = net(torch.randn(64, 5, 1, 1, generator=random)[:2])
    made = ((made.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    rows = {}
    for name, pixels in {"Progressive GAN": made, "real images": faces[:2]}.items():
        distance = swd(descriptors(pixels), descriptors(faces[-2:]))[16]
        contrast = np.mean([pixels[0].std(), pixels[1].std()])
        row = {"SWD 16": distance, "SWD": distance, "contrast": contrast}
        rows[name] = {column: pytest.approx(value) for column, value in row.items()}
    assert kept == {"images": 2, "figures": rows}


def test_it_is_compared_with_a_dcgan(images, tmp_path):
    sizes = {"nz": 6, "ngf": 4, "ndf": 4, "batch_size": 24, "num_epochs": 1, "device": "cpu"}
    places = {"data_dir": str(images), "cache_dir": str(tmp_path / "cache")}
    dcgan = gan_demo.Config(image_size=32, out_dir=str(tmp_path / "dcgan"), **places, **sizes)
    dcgan = gan_demo.train(dcgan)
    config = small_config(images, tmp_path, image_size=32, num_epochs=6, against=str(dcgan))
    run = progan.train(config)
    figures = json.loads((run / "figures.json").read_text())["figures"]
    assert list(figures) == ["Progressive GAN", "DCGAN", "real images"]
    assert list(figures["DCGAN"]) == ["SWD 32", "SWD 16", "SWD", "contrast"]
    assert figures["DCGAN"]["SWD 32"] > figures["real images"]["SWD 32"]
    progan.train(replace(config, resume=str(run), against=""))  # no more than the figures
    again = json.loads((run / "figures.json").read_text())["figures"]
    assert again == {name: figures[name] for name in ("Progressive GAN", "real images")}


# --- using it


def test_it_draws(run, tmp_path):
    names = use(run, tmp_path / "one", num_img=70, walk=3, interpolate=True)
    assert names == ["faces.png", "walk.png", "walk.gif", "interpolation.gif"]
    assert {path.name for path in contents(tmp_path / "one")} == {*names}
    faces = np.asarray(Image.open(tmp_path / "one/faces.png"))
    assert faces.shape == (9 * 18 + 2, 8 * 18 + 2, 3) and faces[2:18, 2:18].std() > 1
    use(run, tmp_path / "fewer", num_img=8)
    use(run, tmp_path / "others", num_img=8, seed=2)
    fewer = np.asarray(Image.open(tmp_path / "fewer/faces.png"))
    assert (fewer[:18] == faces[:18]).all()
    assert (fewer != np.asarray(Image.open(tmp_path / "others/faces.png"))).any()


def test_the_walk_moves_one_coordinate(run, tmp_path):
    use(run, tmp_path / "walk", walk=4)
    walk = np.asarray(Image.open(tmp_path / "walk/walk.png"))
    assert walk.shape == (18 + 2, 13 * 18 + 2, 3)
    config = progan.Use("noise", "", path_checkpoint=str(run))
    net = common.load_net(config, "progan", progan.build)
    noise = torch.randn(64, 5, 1, 1, generator=torch.Generator().manual_seed(1))[:1].clone()
    for place, value in ((0, -3), (12, 3)):
        noise[0, 4] = value
        with torch.no_grad():
            face = ((net(noise)[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).numpy()
        assert (walk[2:18, 18 * place + 2 : 18 * place + 18] == face).all()


def test_weights_of_a_fade_draw_as_they_were(run, tmp_path):
    """A checkpoint tells how far its net has grown."""
    for epoch, growth in enumerate([0, 2 / 3, 1, 5 / 3, 2]):
        path = run / f"checkpoint_{epoch}_epoch.pkl"
        net = common.load_net(
            progan.Use("noise", "", path_checkpoint=str(path)), "progan", progan.build
        )
        assert float(net.growth) == pytest.approx(growth)
        use(path, tmp_path / f"of{epoch}", num_img=1)
        side = [4, 8, 8, 16, 16][epoch]
        assert Image.open(tmp_path / f"of{epoch}/faces.png").size == (side + 4, side + 4)


def test_the_released_weights_draw_faces():
    """Large ones, of which none is like another, with skin in the middle."""
    released = common.RELEASED / "progan.pkl"
    assert released.stat().st_size < 2.8e6
    config = progan.Use("noise", "", path_checkpoint=str(released))
    faces = progan.drawn(common.load_net(config, "progan", progan.build), 32, seed=1) / 1.0
    assert faces.shape == (32, 128, 128, 3)
    red, green, blue = faces[:, 40:100, 40:88].mean((1, 2)).T
    assert ((red > green) & (green > blue)).mean() > 0.8
    assert faces.std(0).mean() > 40 and (faces.std((1, 2, 3)) > 25).all()


# --- sentences

# As in faults/test_sentences.py: a command, and the sentence that ends it.
ERRORS = """
progan.py --input photo.jpg --out-dir new
    input is photo.jpg; it must be noise.
progan.py --input noise --out-dir full
    out_dir full has files in it already; name a new folder.
progan.py --input noise --out-dir new --walk 5
    walk is 5; this z_idx must be from 0 to 4.
progan.py --input noise --out-dir new --num-img 0
    num_img is 0; it must be 1 or more.
progan.py --input noise --out-dir new --path-checkpoint dcgan.pkl
    dcgan.pkl is of another net than applications.progan has; name a run or a file of it.
progan.py --input noise --out-dir new --path-checkpoint grown.pkl
    grown.pkl is of another net than applications.progan has; name a run or a file of it.
progan.py --walk 5
    --walk is for using what has been trained; add --input, too.
progan.py --image-size 100
    image_size is 100; it must be 16, 32, 64, 128, 256, 512 or 1024.
progan.py --data-dir full --image-size=64
    num_epochs is 4; growing to image_size 64 takes 8 with these fade_epochs and hold_epochs.
progan.py --data-dir full --against missing.pkl
    against cannot be used: checkpoint missing.pkl does not exist; name a file or a folder.
progan.py --data-dir full --against dcgan.pkl
    against dcgan.pkl draws 32 x 32 pixels of 3 channels, not 16 x 16 of 3; name another, or none by --against=.
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    save_images(folder / "full", 12)
    net = progan.Generator(5, progan.widths_of(8, 16)).state_dict()
    files = {"weights": net, "grown": net | {"growth": torch.tensor(3.0)}}
    files["dcgan"] = Generator(8, 8, 3, 32).state_dict()
    for name, weights in files.items():
        save_checkpoint({"epoch": 0, "g_model_state_dict": weights}, folder / f"{name}.pkl")
    return folder


@pytest.mark.parametrize(("command", "sentence"), rows(ERRORS))
def test_an_error_is_one_sentence(scene, monkeypatch, capsys, command, sentence):
    script, *flags = command.split()
    if "--path-checkpoint" not in flags:
        flags += ["--path-checkpoint", "weights.pkl"] * ("--input" in flags)
    if "--data-dir" in flags:
        small = {"image-size": 16, "num-epochs": 4, "fade-epochs": 1, "hold-epochs": 1}
        small["batch-size"] = 4
        flags = [f"--{name}={value}" for name, value in small.items()] + flags
    monkeypatch.chdir(scene)
    monkeypatch.setattr(sys, "argv", [script, *flags, "--device", "cpu"])
    before = contents(scene)
    with pytest.raises(SystemExit) as ended:
        run_as_script(progan.main)
    assert ended.value.code == 2 and contents(scene) == before
    assert matches(f"{script}: {sentence}\n", capsys.readouterr().err)
