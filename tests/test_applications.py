"""The applications: each trains, goes on to the same end, is used on pictures, and its figures hold."""

import ast
import itertools
import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, assert_same_run, save_images, save_weights
from faults.test_sentences import contents, matches, rows
from PIL import Image

from applications import common, context_encoder, cyclegan, icgan, pix2pix, srgan
from applications.nets import Doubled, face_net
from common_tools import RunError, run_as_script
from drawings import faces as drawn
from drawings.faces import draw_face
from machinery.batches import FaceBatches
from machinery.constants import saved_config
from my_dataset import DRAWN_FACES, resize_and_crop

# Each application with constants that make a run of seconds, and draw what random numbers it can.
SMALL = {
    context_encoder: {"width": 4, "random_blocks": 0.5},
    srgan: {"width": 4, "blocks": 1, "mse_epochs": 1},
    pix2pix: {"width": 4, "width_d": 4},
    cyclegan: {"width": 4, "blocks": 1, "pool": 10},
    icgan: {"width": 4, "ngf": 4, "ndf": 4, "nz": 5, "gan_epochs": 1},
}
NAMES = "Smiling Black_Hair Blond_Hair Gray_Hair Young"


def name_of(application):
    return application.__name__.rpartition(".")[2]


def small_config(application, images, folder):
    sources = ["data_a", "data_b"] if application is cyclegan else ["data_dir"]
    places = dict.fromkeys(sources, images)
    places |= {"cache_dir": folder / "cache", "out_dir": folder / "runs"}
    places = {name: str(path) for name, path in places.items()}
    sizes = {"batch_size": 8, "num_epochs": 2, "device": "cpu"}
    if application is icgan:
        path = write_attributes(folder / "attributes.txt", sorted(images.iterdir()))
        sizes |= {"attributes_file": str(path), "attributes": "Black_Hair,Smiling,Blond_Hair,Young"}
    return application.Config(**places, **sizes | SMALL[application])


def write_attributes(path, files):
    """A file as list_attr_celeba.txt, of NAMES: of the n-th image those of the bits that n + 1 has."""
    rows = [[1 if n + 1 & 2**k else -1 for k in range(5)] for n in range(len(files))]
    rows = [" ".join([file.name, *map("{:2}".format, row)]) for file, row in zip(files, rows)]
    path.write_text("\n".join([str(len(rows)), NAMES, *rows, ""]))
    return path


@pytest.fixture(scope="module", params=SMALL, ids=name_of)
def trained(request, images, tmp_path_factory):
    """An application, and a run of it that nothing interrupted."""
    folder = tmp_path_factory.mktemp(name_of(request.param))
    return request.param, request.param.train(small_config(request.param, images, folder))


def use(application, run, **constants):
    return application.use(application.Use(path_checkpoint=str(run), device="cpu", **constants))


def make_photos(folder):
    """A folder with a picture of another size, a gray one, two that differ in their endings, one in
    a folder of its own, a broken one, and one of a format that is not read."""
    save_images(folder, 1, (64, 64), ".jpg")
    save_images(folder, 1, (150, 101))
    save_images(folder / "more", 1, (39, 70), ".bmp")
    Image.open(folder / "000.png").convert("L").save(folder / "Gray.PNG")
    (folder / "broken.jpg").write_bytes(b"broken")
    (folder / "phone.heic").touch()
    return folder


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos")


# --- what all of them have


@pytest.mark.parametrize("kill_after", [3, 5])  # iterations; an epoch has three
def test_killed_it_goes_on_to_the_same_end(trained, images, tmp_path, monkeypatch, kill_after):
    class Killed(BaseException):
        pass

    application, whole = trained
    config, steps = small_config(application, images, tmp_path), itertools.count()
    step = application.train_step

    def killing_step(*arguments):
        if next(steps) == kill_after:
            raise Killed
        return step(*arguments)

    monkeypatch.setattr(application, "train_step", killing_step)
    with pytest.raises(Killed):
        application.train(config)
    monkeypatch.undo()
    resumed = application.train(saved_config(application.Config, "latest", config.out_dir))
    assert_same_run(resumed, whole)
    assert (resumed / "figures.json").read_bytes() == (whole / "figures.json").read_bytes()


def test_it_is_used_on_a_folder_with_a_broken_file(trained, photos, tmp_path, capsys):
    application, run = trained
    before = contents(photos)
    written = use(application, run, input=str(photos), out_dir=str(tmp_path / "out"))
    printed = capsys.readouterr().out
    names = ["000.png", "000.png.png", "Gray.png", "more/000.png", "overview.png"]
    out = tmp_path / "out"
    assert sorted(names) == sorted(path.relative_to(out).as_posix() for path in written)
    assert sorted(written) == sorted(contents(out))
    assert printed.count("Passed over") == 2
    assert f"{photos / 'broken.jpg'} is not a readable image" in printed and "1 .heic" in printed
    assert contents(photos) == before
    assert Image.open(tmp_path / "out/overview.png").size == (4 * 130 + 2, 2 * 130 + 2)


def test_a_picture_that_is_a_line_ends_nothing(trained, tmp_path):
    application, run = trained
    (tmp_path / "in").mkdir()
    Image.new("RGB", (600, 4), "red").save(tmp_path / "in/line.png")
    use(application, run, input=str(tmp_path / "in"), out_dir=str(tmp_path / "out"))
    assert {path.name for path in contents(tmp_path / "out")} == {"line.png", "overview.png"}


def test_one_picture_is_used_without_a_look_at_its_folder(trained, photos, tmp_path, monkeypatch):
    application, run = trained
    monkeypatch.setattr("my_dataset.folder_files", None)
    use(application, run, input=str(photos / "000.jpg"), out_dir=str(tmp_path / "one/new"))
    assert sorted(path.name for path in contents(tmp_path / "one")) == ["000.png", "overview.png"]


def test_the_last_tenth_is_kept_apart(images, tmp_path):
    config = small_config(context_encoder, images, tmp_path)
    learnt, apart, _ = common.open_images(config, torch.device("cpu"))
    whole = np.stack(
        [np.asarray(Image.open(path).resize((76, 64))) for path in sorted(images.iterdir())]
    )
    assert (len(learnt.images), len(apart)) == (24, 2) and whole.shape[0] == 26
    seen = [image for batch in learnt.epoch(0, 0) for image in batch]
    assert len(seen) == 24
    for image in common.to_images(torch.tensor(apart)):
        assert not any(
            torch.equal(image, each) or torch.equal(image, each.flip(2)) for each in seen
        )


def test_the_newest_run_is_used_else_the_released_weights(trained, photos, tmp_path, monkeypatch):
    application, run = trained
    name = name_of(application)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "RELEASED", Path("checkpoints"))
    config = application.Use(input=str(photos), out_dir="out", device="cpu")
    build = application.build
    with pytest.raises(RunError, match="neither a run in"):
        common.load_net(config, name, build)
    weights = torch.load(run / "checkpoint_1_epoch.pkl")["g_ema_model_state_dict"]
    halves = {
        key: value.half() if value.is_floating_point() else value for key, value in weights.items()
    }
    save_weights({"epoch": 0, "g_model_state_dict": halves}, Path(f"checkpoints/{name}.pkl"))
    released = common.load_net(config, name, build).state_dict()
    assert all(
        torch.equal(released[key].float(), halves[key].float())
        for key in weights
        if "num" not in key
    )
    for number in (1, 2):
        shutil.copytree(run, f"log_gan/{name}/run{number}")
    Path(f"log_gan/{name}/run2/checkpoint_1_epoch.pkl").write_bytes(b"damaged")
    newest = torch.load(run / "checkpoint_0_epoch.pkl")["g_ema_model_state_dict"]
    for folder in ("", f"log_gan/{name}"):
        config.path_checkpoint = folder
        found = common.load_net(config, name, build).state_dict()
        assert all(torch.equal(found[key], newest[key]) for key in newest)
    config.path_checkpoint = "checkpoints"
    found = common.load_net(config, name, build).state_dict()
    assert all(torch.equal(found[key], released[key]) for key in found)


# --- Context Encoder


def test_the_figures_of_the_context_encoder(images, tmp_path):
    application = context_encoder
    run = application.train(small_config(application, images, tmp_path))
    kept = json.loads((run / "figures.json").read_text())
    faces = [np.asarray(Image.open(path).resize((64, 76), 2)) for path in sorted(images.iterdir())]
    faces = [face[6:70].astype(float) for face in faces]  # 40 x 48, and of 64 x 76 the middle

    config = application.Use(input="", out_dir="", path_checkpoint=str(run))
    net = common.load_net(config, "context_encoder", application.build)
    squares = {"mean colour of the surroundings": [], "mean image of the training": []}
    squares["Context Encoder"] = []
    for face in faces[-2:]:
        hole = np.zeros((64, 64), bool)
        hole[16:48, 16:48] = True
        seen = np.where(hole[..., None], 127.5, face) / 127.5 - 1
        seen = np.concatenate([seen, hole[..., None]], 2).transpose(2, 0, 1)
        with torch.no_grad():
            made = net(torch.tensor(seen[None]).float())[0].numpy().transpose(1, 2, 0)
        guesses = [face[~hole].mean(0), np.mean(faces[:24], 0), np.round((made + 1) * 127.5)]
        for guess, found in zip(guesses, squares.values(), strict=True):
            found.append(np.mean((np.broadcast_to(guess, face.shape)[hole] - face[hole]) ** 2))
    expected = {
        name: {
            "PSNR": pytest.approx(
                np.mean([10 * np.log10(255**2 / each) for each in found]), abs=0.001
            )
        }
        for name, found in squares.items()
    }
    assert kept == {"images": 2, "figures": expected}


def test_outside_the_hole_not_a_pixel_changes(trained_encoder, tmp_path):
    for size in [(64, 64), (178, 218), (150, 101), (30, 31), (400, 64)]:
        photo = np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        mask = np.zeros(size[::-1], np.uint8)
        mask[-20:-3, -28:-1] = 255  # beside the middle square of the wide one
        middle = np.zeros(size[::-1], bool)
        side = min(size)
        top, left = ((length - side) // 2 for length in size[::-1])
        middle[top + side // 4 : top + side * 3 // 4, left + side // 4 : left + side * 3 // 4] = (
            True
        )
        for hole, given in ((middle, None), (mask > 0, Image.fromarray(mask))):
            pictures = context_encoder.fill_in_picture(
                trained_encoder, Image.fromarray(photo), given
            )
            cut, made = map(np.asarray, pictures)
            assert cut.shape == made.shape == photo.shape
            assert (made[~hole] == photo[~hole]).all() and (cut[~hole] == photo[~hole]).all()
            assert (cut[hole] == 128).all() and (made[hole] != photo[hole]).any(1).mean() > 0.9


def test_a_thin_line_in_a_large_mask_is_filled_in(trained_encoder):
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (109, 89, 3), dtype=np.uint8))
    mask = Image.new("L", (890, 1090))
    mask.paste(255, (451, 300, 453, 700))
    cut, _ = context_encoder.fill_in_picture(trained_encoder, photo, mask)
    changed = (np.asarray(cut) != np.asarray(photo)).any(2)
    assert changed[30:70, 45].all() and changed.sum() == 40


def test_what_is_in_the_hole_is_not_looked_at(trained_encoder):
    """A scratch in a photo is not to show in what takes its place, whatever the photo's size."""
    for size in [(64, 64), (178, 218)]:
        photo = np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        mask = np.zeros(size[::-1], np.uint8)
        mask[51:71, 40:59] = 255
        other = np.where(mask[..., None] > 0, 255 - photo, photo)
        one, two = (
            np.asarray(
                context_encoder.fill_in_picture(
                    trained_encoder, Image.fromarray(each), Image.fromarray(mask)
                )[1]
            ).astype(int)
            for each in (photo, other)
        )
        assert abs(one - two).max() <= 1


@pytest.fixture
def trained_encoder():
    torch.manual_seed(0)
    net = context_encoder.context_encoder(4)
    net(torch.randn(16, 4, 64, 64))
    return net.eval()


def test_the_released_weights_fill_in_faces():
    """Drawn ones, which they have not learnt: still closer than the colour of the surroundings."""
    released = common.RELEASED / "context_encoder.pkl"
    assert released.stat().st_size < 6e6
    config = context_encoder.Use(input="", out_dir="", path_checkpoint=str(released))
    net = common.load_net(config, "context_encoder", context_encoder.build)
    faces = np.stack([resize_and_crop(draw_face(seed), 64) for seed in range(1, 21)])
    truth = common.to_images(torch.tensor(faces))
    filled = context_encoder.fill_in(net, truth, context_encoder.middle("cpu"))
    found = context_encoder.figures(filled, faces, faces)
    by_name = {name: row["PSNR"] for name, row in found.items()}
    assert by_name["Context Encoder"] > by_name["mean colour of the surroundings"] + 2


def test_random_blocks_are_a_fifth_of_the_pixels():
    torch.manual_seed(0)
    holes = context_encoder.random_blocks(2000, torch.device("cpu"))
    assert holes.shape == (2000, 1, 64, 64) and set(holes.unique().tolist()) == {0, 1}
    assert 0.15 < holes.mean() < 0.25
    by_place = holes.mean(0)[0]
    assert by_place.min() > 0 and by_place[32, 32] > 0.2  # none is out of reach
    assert torch.allclose(by_place, by_place.T, atol=0.06)


def test_a_step_of_the_context_encoder_is_the_papers():
    """The losses written out again with nothing shared, in float64."""
    torch.manual_seed(0)
    real = torch.rand(3, 3, 64, 64, dtype=torch.float64) * 2 - 1
    hole = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    hole[..., 16:48, 16:48] = 1
    net, d = context_encoder.context_encoder(4).double(), context_encoder.Discriminator(3, 4, 32)
    d = d.double()
    config = context_encoder.Config(width=4, bf16=False)
    optimizers = torch.optim.SGD(net.parameters(), lr=0.0), torch.optim.SGD(d.parameters(), lr=0.0)
    window = (slice(16, 48), slice(16, 48))
    numbers = context_encoder.train_step(real, hole, window, net, d, *optimizers, config)

    made = net(torch.cat([real * (1 - hole), hole.expand(3, -1, -1, -1)], 1))
    middle, error = made[..., 16:48, 16:48], ((made - real) ** 2)[..., 12:52, 12:52]
    weight = torch.full((40, 40), config.overlap, dtype=torch.float64)
    weight[4:-4, 4:-4] = 1
    l2 = (error * weight).sum() / (9 * weight.sum())
    p_real, p_made = d(real[..., 16:48, 16:48]), d(middle)
    adversarial = -d(middle).log().mean()
    loss_d = -p_real.log().mean() - (1 - p_made).log().mean()
    expected = torch.stack([l2, adversarial, loss_d, p_real.mean(), p_made.mean()])
    assert torch.allclose(numbers, expected, rtol=1e-6)
    gradient = torch.autograd.grad(l2 + config.adversarial * adversarial, net.last.weight)[0]
    assert torch.allclose(net.last.weight.grad, gradient, rtol=1e-5, atol=1e-12)


# --- SRGAN


def test_the_figures_of_srgan(tmp_path):
    """Each face written to files and enlarged from there, compared by formulas of the test's own."""
    images = tmp_path / "rough"
    images.mkdir()
    for number in range(20):
        rough_picture((20, 24), number).resize((40, 48)).save(images / f"{number:02d}.png")
    run = srgan.train(small_config(srgan, images, tmp_path))
    kept = json.loads((run / "figures.json").read_text())
    assert kept["images"] == 2 and list(kept["figures"]) == ["bicubic", "SRResNet", "SRGAN"]
    faces = [Image.open(path).resize((64, 76), 2) for path in sorted(images.iterdir())[-2:]]
    faces = [face.crop((0, 6, 64, 70)) for face in faces]
    for number, face in enumerate(faces):
        small = srgan.shrink(common.to_images(torch.tensor(np.asarray(face))[None]))
        pixels = np.asarray(face.resize((16, 16), Image.Resampling.BICUBIC)).astype(float)
        assert abs((small[0].permute(1, 2, 0).numpy() + 1) * 127.5 - pixels).max() < 6
        save_images(tmp_path / "small", 0)
        small = ((small[0].permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)
        Image.fromarray(small).save(tmp_path / f"small/{number}.png")

    checkpoints = {"SRResNet": run / "srresnet.pkl", "SRGAN": run}
    for name, path in checkpoints.items():
        out = tmp_path / name
        use(srgan, path, input=str(tmp_path / "small"), out_dir=str(out))
        found = []
        for number, face in enumerate(faces):
            made = np.asarray(Image.open(out / f"{number}.png"), float)
            found.append(10 * np.log10(255**2 / np.mean((made - np.asarray(face)) ** 2)))
        assert kept["figures"][name]["PSNR"] == pytest.approx(np.mean(found), abs=0.001)
        assert kept["figures"][name]["SWD 64"] > 0
    found = [
        np.asarray(Image.open(tmp_path / f"small/{n}.png").resize((64, 64), 3), float)
        for n in (0, 1)
    ]
    found = [np.mean((made - np.asarray(face)) ** 2) for made, face in zip(found, faces)]
    found = np.mean(10 * np.log10(255**2 / np.array(found)))
    assert kept["figures"]["bicubic"]["PSNR"] == pytest.approx(
        found, abs=0.05
    )  # Pillow rounds in between

    (run / "srresnet.pkl").unlink()  # its row is lost, and nothing else
    srgan.train(replace(small_config(srgan, images, tmp_path), resume=str(run)))
    again = json.loads((run / "figures.json").read_text())["figures"]
    assert again == {name: kept["figures"][name] for name in ("bicubic", "SRGAN")}


def test_before_the_adversarial_epochs_there_is_no_srgan(tmp_path):
    save_images(tmp_path / "images", 20)
    config = replace(small_config(srgan, tmp_path / "images", tmp_path), num_epochs=1)
    kept = json.loads((srgan.train(config) / "figures.json").read_text())
    assert list(kept["figures"]) == ["bicubic", "SRResNet"]


def test_a_picture_in_tiles_is_the_picture_at_once(monkeypatch):
    torch.manual_seed(0)
    net = srgan.SRResNet(8, 8)
    for size in [(300, 150), (128, 129), (5, 3)]:
        picture = rough_picture(size)
        tiled = np.asarray(srgan.enlarge_picture(net, picture), int)
        assert tiled.shape == (4 * size[1], 4 * size[0], 3)
        monkeypatch.setattr(srgan, "BLOCK", 1000)
        whole = np.asarray(srgan.enlarge_picture(net, picture), int)
        monkeypatch.undo()
        assert abs(tiled - whole).max() <= 1 and (tiled == whole).mean() > 0.99


def rough_picture(size, seed=1):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_srgan_starts_from_an_srresnet_by_squared_error_alone(trained):
    application, run = trained
    if application is not srgan:
        pytest.skip("of SRGAN")
    table = np.genfromtxt(run / "metrics.csv", delimiter=",", names=True)
    rows = [name for name in srgan.METRICS if name != "loss_mse"]
    assert (table["loss_mse"] > 0).all()
    for name in rows:
        assert (table[name][:3] == 0).all() and (table[name][3:] > 0).all()
    first = torch.load(run / "checkpoint_0_epoch.pkl")["g_ema_model_state_dict"]
    kept = torch.load(run / "srresnet.pkl")["g_model_state_dict"]
    assert all(torch.equal(first[key], kept[key]) for key in first)


def test_a_step_of_srgan_written_out_again():
    torch.manual_seed(0)
    real = torch.rand(3, 3, 64, 64, dtype=torch.float64) * 2 - 1
    net, d = srgan.SRResNet(4, 1).double(), srgan.Discriminator(3, 4, 64).double()
    config = srgan.Config(bf16=False, content_weight=0.3, adversarial=0.2)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.0) for each in (net, d)]
    numbers = srgan.train_step(real, net, d, *optimizers, d.main[:8], config, True)
    made = net(srgan.shrink(real))
    mse = ((made - real) ** 2).mean()
    content = ((d.main[:8](made).float() - d.main[:8](real).float()) ** 2).mean()
    p_real, p_made = d(real), d(made)
    adversarial = -p_made.log().mean()
    loss_d = -p_real.log().mean() - (1 - p_made).log().mean()
    expected = torch.stack([mse, content, adversarial, loss_d, p_real.mean(), p_made.mean()])
    assert torch.allclose(numbers.double(), expected, rtol=1e-4)
    total = mse + 0.3 * content + 0.2 * adversarial
    gradient = torch.autograd.grad(total, net.after.weight)[0]
    assert torch.allclose(net.after.weight.grad, gradient, rtol=1e-3, atol=1e-9)


def test_vggs_features_are_the_content_where_they_can_be_had(monkeypatch):
    from torchvision import models

    monkeypatch.setattr(models, "vgg19", lambda weights: vgg)
    vgg = models.vgg.VGG(models.vgg.make_layers(models.vgg.cfgs["E"]))
    features = srgan.vgg_features()
    assert features(torch.zeros(1, 3, 64, 64)).shape == (1, 512, 2, 2)
    image = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None].expand(1, 3, 64, 64)
    assert torch.allclose(features(2 * image - 1), vgg.features(torch.zeros_like(image)) / 12.75)


def no_network(weights):
    raise OSError("no network")


# --- Pix2Pix


def apart(images):
    """The two faces of the fixture that are kept apart, as pixels: 40 x 48, and of 64 x 76 the middle."""
    faces = [Image.open(path).resize((64, 76), 2) for path in sorted(images.iterdir())[-2:]]
    return np.stack([np.asarray(face)[6:70] for face in faces])


def made_by(net, pixels):
    """What a net makes of images (N, 64, 64, 3), uint8, or of what lies in [-1, 1], as float."""
    given = torch.tensor(pixels).permute(0, 3, 1, 2).float()
    given = given / 127.5 - 1 if pixels.dtype == np.uint8 else given
    with torch.no_grad():
        return net.eval()(given).permute(0, 2, 3, 1).numpy()


def to_bytes(images):
    return np.round((images + 1) * 127.5).astype(np.uint8)


def drawn_by_hand(pixels, strength):
    """pencil(), written out again for one image (H, W, 3) with Pillow's gray values."""
    gray = pixels.astype(float) @ [0.299, 0.587, 0.114] / 255 + 0.1
    padded = np.pad(gray, 6, mode="reflect")
    weight = [[np.exp(-(y * y + x * x) / 8) for x in range(-6, 7)] for y in range(-6, 7)]
    weight /= np.sum(weight)
    around = np.zeros_like(gray)
    for y, x in itertools.product(range(13), range(13)):
        around += weight[y, x] * padded[y : y + gray.shape[0], x : x + gray.shape[1]]
    drawn = np.minimum(gray / around, 1) ** strength
    return np.repeat(drawn[..., None], 3, axis=2) * 2 - 1


def test_a_pencil_draws_what_is_darker_than_around():
    face = np.asarray(draw_face(3).resize((64, 78)))
    images = torch.tensor(face[None]).permute(0, 3, 1, 2) / 127.5 - 1
    for strength in (2, 4):
        drawn = pix2pix.pencil(images, strength)[0].permute(1, 2, 0).numpy()
        assert np.allclose(drawn, drawn_by_hand(face, strength), atol=1e-4)
    assert torch.allclose(
        pix2pix.pencil(torch.full((1, 3, 20, 20), -0.9)), torch.ones(1, 3, 20, 20)
    )


def test_the_figures_of_pix2pix(images, tmp_path):
    run = pix2pix.train(small_config(pix2pix, images, tmp_path))
    kept = json.loads((run / "figures.json").read_text())
    truth = apart(images)
    sketches = np.stack([drawn_by_hand(face, 4) for face in truth])
    checkpoint = torch.load(run / "checkpoint_1_epoch.pkl")
    expected = {}
    for name, key in {"L2 alone": "l2_ema_model", "Pix2Pix": "g_ema_model"}.items():
        weights = checkpoint[f"{key}_state_dict"]
        net = pix2pix.u_net(4)
        net.load_state_dict(weights)
        made = to_bytes(made_by(net, sketches))
        swd = pix2pix.swd(pix2pix.descriptors(made), pix2pix.descriptors(truth))
        found = {"L1": abs(made.astype(float) - truth).mean(), "SWD": np.mean([*swd.values()])}
        found |= {f"SWD {side}": swd[side] for side in (64, 32, 16)}
        expected[name] = {key: pytest.approx(value, rel=0.02) for key, value in found.items()}
    assert kept == {"images": 2, "figures": expected}


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_pairs_are_learnt_in_either_direction(direction, tmp_path):
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs/0.png").write_bytes(b"broken")
    for number in range(20):
        pair = Image.new("RGB", (50, 30), "red")
        pair.paste("blue", (25, 0, 50, 30))
        pair.save(tmp_path / f"pairs/{number:02d}.png")
    config = small_config(pix2pix, tmp_path / "pairs", tmp_path)
    config.direction, config.num_epochs, config.skip_bad_images = direction, 1, True
    run = pix2pix.train(config)
    for name, lines in {"real.png": (0, 1), "epoch_000.png": (0, 2)}.items():
        picture = Image.open(run / name)
        found = [picture.getpixel((30, 66 * row + 30)) for row in lines]
        wanted = [(255, 0, 0), (0, 0, 255)]
        assert found == (wanted if direction == "AtoB" else wanted[::-1])


def test_a_step_of_pix2pix_written_out_again():
    torch.manual_seed(0)
    given, real = torch.rand(2, 3, 3, 64, 64, dtype=torch.float64) * 2 - 1
    net, alone = (pix2pix.u_net(4).double() for _ in range(2))
    both = [pix2pix.patch_discriminator(6, 4, torch.nn.BatchNorm2d).double() for _ in range(2)]
    both = torch.nn.ModuleList(both)
    config = pix2pix.Config(bf16=False, l1=30)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.0) for each in (net, both, alone)]
    numbers = pix2pix.train_step(given, real, net, both, alone, optimizers, config)
    made, by_alone = net(given), alone(given)
    l1, l2 = (made - real).abs().mean(), ((by_alone - real) ** 2).mean()
    adversarial = loss_d = 0
    for d, block in zip(both, (1, 4)):  # the second sees the mean of 4 x 4 pixels
        pairs = (torch.cat([given, each], 1).unflatten(3, (-1, block)) for each in (real, made))
        seen = (pair.unflatten(2, (-1, block)).mean((3, 5)) for pair in pairs)
        p_real, p_made = (d(each).float().sigmoid() for each in seen)
        adversarial = adversarial - p_made.log().mean()
        loss_d = loss_d - (p_real.log() + (1 - p_made).log()).mean() / 2
        if block == 1:
            assert p_real.shape == (3, 1, 14, 14)
            judged = p_real.mean(), p_made.mean()
    assert p_real.shape == (3, 1, 2, 2)
    expected = torch.stack([l1, adversarial, loss_d, l2, *judged])
    assert torch.allclose(numbers, expected, rtol=1e-4)
    for each, loss in [(net, adversarial + 30 * l1), (alone, l2)]:
        gradient = torch.autograd.grad(loss, each.last.weight, retain_graph=True)[0]
        assert torch.allclose(each.last.weight.grad, gradient, rtol=1e-3, atol=1e-8)


def test_all_rates_but_that_of_d_fall_to_0_in_the_last_quarter(images, tmp_path, monkeypatch):
    rates, step = [], pix2pix.train_step

    def noting_step(*arguments):
        rates.append([float(each.param_groups[0]["lr"]) for each in arguments[-2]])
        return step(*arguments)

    monkeypatch.setattr(pix2pix, "train_step", noting_step)
    config = small_config(pix2pix, images, tmp_path)
    pix2pix.train(replace(config, num_epochs=4, lr=0.01))
    learnt = len([*images.iterdir()]) - len(apart(images))
    falling = [0.01 * (1 - seen / learnt) for seen in range(0, learnt - 7, 8)]
    expected = [0.01] * (3 * len(falling)) + falling
    of_net, of_d, of_l2 = zip(*rates)
    assert len(falling) > 1 and of_net == of_l2 == pytest.approx(expected)
    assert {*of_d} == {of_net[0]}


def test_dropout_is_of_the_training_alone(tmp_path):
    torch.manual_seed(0)
    net, picture = pix2pix.u_net(4, dropout=0.5), rough_picture((70, 90))
    once, again = (np.asarray(pix2pix.change_picture(net, picture)[1]) for _ in range(2))
    assert (once == again).all() and net.training
    images = torch.rand(2, 3, 64, 64)
    assert not torch.equal(net(images), net(images))


def test_a_photo_is_drawn_before_it_is_used(tmp_path):
    net, photo = pix2pix.u_net(4), draw_face(1)
    (sketch, made), (middle, other) = (
        pix2pix.change_picture(net, photo, drawn) for drawn in (True, False)
    )
    again = np.asarray(pix2pix.change_picture(net, sketch)[1], int)
    assert np.asarray(middle).std(axis=2).mean() > 5 and np.asarray(sketch).std(axis=2).max() == 0
    assert abs(again - np.asarray(made)).max() <= 2  # Pillow rounds in between
    assert (np.asarray(made) != np.asarray(other)).any()


def test_who_gives_photos_for_sketches_is_told(tmp_path, capsys):
    save_weights({"g_model_state_dict": pix2pix.u_net(4).state_dict()}, tmp_path / "net.pkl")
    photo = draw_face(1)
    photo.save(tmp_path / "photo.png")  # light, but coloured
    photo.convert("L").point(lambda level: level // 2).save(tmp_path / "gray.png")
    pix2pix.change_picture(pix2pix.u_net(4), photo, True)[0].save(tmp_path / "sketch.png")
    for name, photos, told in (
        *(("photo.png", photos, not photos) for photos in (False, True)),
        *(("gray.png", False, True), ("sketch.png", False, False)),
    ):
        config = pix2pix.Use(
            str(tmp_path / name), str(tmp_path / f"{name}{photos}"),
            path_checkpoint=str(tmp_path / "net.pkl"), device="cpu", photos=photos,
        )  # fmt: skip
        pix2pix.use(config)
        note = "Most of these pictures look like photos; weights that learnt from sketches need dark lines on light paper, or --photos, which draws a sketch of each first."
        assert (note in capsys.readouterr().out) is told


# --- CycleGAN


def test_the_figures_of_cyclegan(tmp_path):
    a = save_images(tmp_path / "a", 30, (64, 64))
    (tmp_path / "b").mkdir()
    for number in range(20):
        rough_picture((64, 64), number).save(tmp_path / f"b/{number:02d}.png")
    config = small_config(cyclegan, a, tmp_path)
    config.data_b = str(tmp_path / "b")
    run = cyclegan.train(config)
    kept = json.loads((run / "figures.json").read_text())
    given = {"AtoB": sorted(a.iterdir())[-3:-1], "BtoA": sorted((tmp_path / "b").iterdir())[-2:]}
    given = {
        way: np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
        for way, paths in given.items()
    }
    nets = common.load_net(cyclegan.Use(str(a), "", str(run)), "cyclegan", cyclegan.build)
    expected = {}
    for way, back in [("AtoB", "BtoA"), ("BtoA", "AtoB")]:
        made = made_by(nets[way], given[way])
        cycle = to_bytes(made_by(nets[back], made)).astype(float) - given[way]
        for name, images in [(f"{way} before", given[way]), (way, to_bytes(made))]:
            swd = cyclegan.swd(*map(cyclegan.descriptors, (images, given[back])))
            expected[name] = {"SWD": pytest.approx(np.mean([*swd.values()]), rel=0.01)}
            expected[name]["cycle"] = pytest.approx(
                0 if "before" in name else abs(cycle).mean(), rel=0.01
            )
    for name, row in expected.items():
        found = kept["figures"][name]
        row |= {"eyes": found["eyes"], "mouth": found["mouth"]}
        assert ("before" in name) == (found["eyes"] == found["mouth"] == 0)
    assert kept == {"images": 2, "figures": expected}


def test_how_far_eyes_and_mouth_have_moved():
    faces = np.stack([np.asarray(draw_face(seed).resize((64, 78)))[7:71] for seed in range(8)])
    faces = torch.tensor(faces).permute(0, 3, 1, 2) / 127.5 - 1
    for down, right in [(0, 0), (1, 0), (-2, 3)]:
        others = -0.5 * faces.roll((down, right), (2, 3)).flip(1) * -1 + 0.2  # of other colours
        for window in (cyclegan.EYES, cyclegan.MOUTH):
            assert abs(cyclegan.moved(faces, others, *window) - np.hypot(down, right)) < 0.2
    assert cyclegan.moved(faces, faces.roll(1, 0), *cyclegan.MOUTH) > 1


def test_a_doubled_layer_convolves_what_is_enlarged():
    layer, images = Doubled(5, 7).double(), torch.randn(2, 5, 6, 4, dtype=torch.double)
    wanted = F.conv2d(F.interpolate(images, scale_factor=2), layer.weight, padding=1)
    assert torch.allclose(layer(images), wanted)


def test_the_pool_gives_earlier_images_every_other_time():
    torch.manual_seed(0)
    pool, images = cyclegan.Pool(6), torch.arange(400.0).view(100, 4, 1, 1, 1)
    shown = []
    for batch in images:
        kept = batch.clone()
        shown.append(pool.swap(batch))
        assert torch.equal(batch, kept)
    assert torch.equal(shown[0], images[0]) and torch.equal(shown[1], images[1])
    ages = (images - torch.stack(shown)).flatten()[8:]
    assert 0.4 < (ages > 0).float().mean() < 0.6 and (ages >= 0).all() and 5 < ages.max() < 100
    other = cyclegan.Pool(6)
    other.load_state_dict({key: value.clone() for key, value in pool.state_dict().items()})
    torch.manual_seed(1)
    first = pool.swap(images[0])
    torch.manual_seed(1)
    assert torch.equal(other.swap(images[0]), first)


def test_an_epoch_of_two_sets_is_once_through_the_smaller():
    sets = [np.full((count, 2, 2, 3), count, np.uint8) for count in (30, 9)]
    sets = [FaceBatches(each, 4, 1, torch.device("cpu")) for each in sets]
    data = cyclegan.Unpaired(*sets)
    batches = list(data.epoch(0))
    assert data.count == 9 and len(batches) == 2 and len(list(data.epoch(0, 4))) == 1
    for a, b in batches:
        assert (a * 127.5 + 127.5 == 30).all() and (b * 127.5 + 127.5).round().eq(9).all()


def test_a_step_of_cyclegan_written_out_again():
    torch.manual_seed(0)
    a, b = torch.rand(2, 2, 3, 64, 64, dtype=torch.float64) * 2 - 1
    nets = cyclegan.both_ways(4, 1).double()
    ds = torch.nn.ModuleDict(
        {way: cyclegan.patch_discriminator(3, 4, torch.nn.Identity) for way in nets}
    ).double()
    config = cyclegan.Config(bf16=False, cycle=7, identity=3)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.0) for each in (nets, ds)]
    pools = {way: cyclegan.Pool(50) for way in nets}
    numbers = cyclegan.train_step(a, b, nets, ds, *optimizers, pools, config)
    there, back = nets["AtoB"], nets["BtoA"]
    made_b, made_a = there(a), back(b)
    cycle = (back(made_b) - a).abs().mean() + (there(made_a) - b).abs().mean()
    identity = (there(b) - b).abs().mean() + (back(a) - a).abs().mean()
    fooled = ((ds["AtoB"](made_b) - 1) ** 2).mean() + ((ds["BtoA"](made_a) - 1) ** 2).mean()
    real, fake = (ds["AtoB"](b), ds["BtoA"](a)), (ds["AtoB"](made_b), ds["BtoA"](made_a))
    loss_d = sum(((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2 for r, f in zip(real, fake))
    judged = [(one.mean() + other.mean()) / 2 for one, other in (real, fake)]
    expected = torch.stack([fooled, cycle, identity, loss_d, *judged])
    assert torch.allclose(numbers, expected.to(numbers.dtype), rtol=1e-4, atol=1e-6)
    loss = fooled + 7 * cycle + 3 * identity
    for net in (there, back):
        gradient = torch.autograd.grad(loss, net[-2].weight, retain_graph=True)[0]
        assert torch.allclose(net[-2].weight.grad, gradient, rtol=1e-3, atol=1e-8)


def test_the_rate_of_cyclegan_falls_to_nothing(images, tmp_path, monkeypatch):
    rates, step = [], cyclegan.train_step

    def watched(*arguments):
        rates.append(round(float(arguments[4].param_groups[0]["lr"] / 0.0003), 3))
        return step(*arguments)

    monkeypatch.setattr(cyclegan, "train_step", watched)
    config = small_config(cyclegan, images, tmp_path)
    config.num_epochs, config.batch_size = 4, 24
    cyclegan.train(config)
    assert rates == [1, 1, 1, 0.5]


# --- IcGAN


def counted(net, classifier, images, truths):
    """The figures of IcGAN, counted image by image, with what each change is to be written out: what
    is changed is set to 1.5 or -1.5."""
    names, columns = net.attributes, ["right", "redrawn", "before", "after", "kept"]
    hits = {name: {column: [] for column in columns} for name in names}
    for image, truth in zip(images, truths):
        noise, values = net.encoders["z"](image[None]), net.encoders["y"](image[None])[0]
        told = {name: value > 0 for name, value in zip(names, values.tolist())}

        def seen(picture):
            return dict(zip(names, (classifier(picture)[0] > 0).tolist()))

        def draw(wanted, changed="", noise=noise):
            values = [
                (1.0 if wanted[name] else -1.0) * (1.5 if name == changed else 1) for name in names
            ]
            values = torch.tensor([values])
            return seen(net.generator(torch.cat([noise, values], 1)[..., None, None]))

        photo, before = seen(image[None]), draw(told)
        for name, found in hits.items():
            wanted = told | {name: not told[name]}
            if name == "Black_Hair" and not told[name]:
                wanted["Blond_Hair"] = False
            if name == "Blond_Hair" and not told[name]:
                wanted["Black_Hair"] = False
            after = draw(wanted, name)
            found["right"].append(photo[name] == truth[name])
            found["redrawn"].append(photo[name] == before[name])
            found["before"].append(before[name] != told[name])
            found["after"].append(after[name] != told[name])
            for other in names:
                if other != name and {name, other} != {"Black_Hair", "Blond_Hair"}:
                    found["kept"].append(after[other] == before[other])
    rows = {
        name: {column: 100 * np.mean(found) for column, found in row.items()}
        for name, row in hits.items()
    }
    rows["mean"] = {c: np.mean([row[c] for row in rows.values()]) for c in columns}
    return {name: pytest.approx(row) for name, row in rows.items()}


@torch.no_grad()
def test_the_figures_of_icgan(trained, images):
    application, run = trained
    if application is not icgan:
        pytest.skip("of IcGAN")
    kept = json.loads((run / "figures.json").read_text())
    config = icgan.Use(input="", out_dir="", path_checkpoint=str(run))
    net, classifier = common.load_net(config, "icgan", icgan.build), face_net(4)
    classifier.load_state_dict(torch.load(run / "classifier.pt"))
    faces = [Image.open(path).resize((64, 76), 2) for path in sorted(images.iterdir())[-2:]]
    faces = np.stack([face.crop((0, 6, 64, 70)) for face in faces])
    truths = [
        {name: bool(number & 2**k) for k, name in enumerate(NAMES.split())} for number in (25, 26)
    ]
    expected = counted(net, classifier.eval(), common.to_images(torch.tensor(faces)), truths)
    assert kept == {"images": 2, "figures": expected}

    # Those of nets whose every answer depends on all that they are told
    torch.manual_seed(1)
    pictures, names = torch.rand(30, 3, 64, 64) * 2 - 1, net.attributes
    for weight in net.generator.parameters():
        weight.mul_(8)
    labels = torch.rand(30, 4) < 0.5
    noise, attributes = net.encode(pictures)
    logits = classifier(net.draw(noise, attributes))
    classifier[-1].bias -= logits.quantile(0.5, 0)  # between two: none lies on the border
    found = icgan.figures(net, classifier, pictures, labels.numpy())
    expected = counted(
        net, classifier, pictures, [dict(zip(names, row)) for row in labels.tolist()]
    )
    assert found == expected
    assert all(0 < value < 100 for column, value in found["mean"].items())


def test_one_attribute_alone_keeps_all_others():
    torch.manual_seed(0)
    pictures, labels = torch.rand(4, 3, 64, 64), np.array([[True], [False]] * 2)
    found = icgan.figures(icgan.IcGAN(["Male"], 5, 4, 4), face_net(1), pictures, labels)
    assert found["Male"]["kept"] == 100 and found["mean"] == found["Male"]


def test_a_step_of_icgan_written_out_again(monkeypatch):
    monkeypatch.setattr(icgan, "augment", lambda images, policy: images)
    torch.manual_seed(0)
    real = torch.rand(6, 3, 64, 64, dtype=torch.float64) * 2 - 1
    labels = torch.tensor([[1, -1, 1], [-1, 1, -1]] * 3, dtype=torch.float64)
    net, d = icgan.IcGAN(["Black_Hair", "Blond_Hair", "Young"], 5, 4, 4), None
    net, d = net.double(), icgan.Judge(3, 4).double()
    net.encoders["y"][1][-3].p = 0  # no dropout
    config = icgan.Config(nz=5, bf16=False, match_contrast=3.0, obey=0.7, reconstruct=0.3)
    optimizers = [
        torch.optim.SGD(each.parameters(), lr=0.0) for each in (net.generator, d, net.encoders)
    ]
    for encoding in (False, True):
        torch.manual_seed(1)
        numbers = icgan.train_step(real, labels, net, d, optimizers, config, encoding)
        torch.manual_seed(1)
        noise = torch.randn(6, 5, dtype=torch.float64)
        which, whether = torch.randint(3, (6,)), torch.rand(6, 1) < 0.5
        wanted = labels.clone()
        for row, column in enumerate(which):
            if whether[row]:
                wanted[row, column] *= -1
                if wanted[row, column] > 0 and column < 2:
                    wanted[row, 1 - column] = -1
        assert not torch.equal(wanted, labels)

        def draw(noise, attributes):
            return net.generator(torch.cat([noise, attributes], 1)[:, :, None, None])

        def p(images):
            """What D says of each image: whether it is real, and which attributes it has."""
            features = d.judge.main[:-2](images)
            return d.judge.main[-2:](features).float(), d.tell(features)[
                :, :, 0, 0
            ].float().sigmoid()

        def cross(p, wanted):
            return -(wanted * p.log() + (1 - wanted) * (1 - p).log()).mean()

        made, y, z = draw(noise, wanted), net.encoders["y"], net.encoders["z"]
        nothing = torch.zeros((), dtype=torch.float64)
        if encoding:
            loss_z = ((z(made.detach()) - noise) ** 2).mean()
            again = ((draw(z(real), labels) - real) ** 2).mean()
            expected = [nothing] * 5 + [loss_z, again] + [nothing] * 2
            learnt = {z[0].weight: loss_z + 0.3 * again}
        else:
            (p_real, of_real), (p_made, of_made) = p(real), p(made)
            p_before, _ = p(made.detach())
            loss_d, loss_g = cross(p_real, 0.9) + cross(p_before, 0.0), cross(p_made, 0.9)
            told, obey = cross(of_real, (labels + 1) / 2), cross(of_made, (wanted + 1) / 2)
            loss_y = ((y(real) - labels) ** 2).mean()
            deviations = [
                (each(made.detach()), each(made), each(real))
                for each in (
                    lambda images: images.transpose(0, 1).flatten(1).mean(1),
                    lambda images: images.transpose(0, 1).flatten(1).std(1),
                )
            ]
            contrast = sum(((now - wish) ** 2).mean() for _, now, wish in deviations)
            expected = [
                loss_d,
                loss_g,
                told,
                obey,
                loss_y,
                nothing,
                nothing,
                p_real.mean(),
                p_made.mean(),
            ]
            learnt = {
                d.judge.main[0].weight: loss_d + 0.7 * told,
                d.tell.weight: loss_d + 0.7 * told,
                y[1][0].weight: loss_y,
                net.generator.main[0].weight: loss_g + 3.0 * contrast + 0.7 * obey,
            }
        assert torch.allclose(numbers.double(), torch.stack(expected), rtol=1e-4)
        for weight, total in learnt.items():
            (gradient,) = torch.autograd.grad(total, weight, retain_graph=True)
            assert torch.allclose(weight.grad, gradient, rtol=1e-3, atol=1e-7)


def test_what_is_learnt_first_stays_while_the_noise_is_learnt(trained):
    application, run = trained
    if application is not icgan:
        pytest.skip("of IcGAN")
    first, last = (
        torch.load(run / f"checkpoint_{n}_epoch.pkl")["g_ema_model_state_dict"] for n in (0, 1)
    )
    for key in first:
        assert torch.equal(first[key], last[key]) != key.startswith("encoders.z"), key


def test_a_run_does_not_go_on_with_other_attributes(trained, tmp_path):
    application, run = trained
    if application is not icgan:
        pytest.skip("of IcGAN")
    config = saved_config(icgan.Config, str(run), "")
    told = Path(config.attributes_file).read_text()
    (tmp_path / "others.txt").write_text(told.replace(" 1", " -1", 1))
    config = replace(config, attributes_file=str(tmp_path / "others.txt"), num_epochs=3)
    with pytest.raises(RunError, match="the images in .*, or what is told of each, are not those"):
        icgan.train(config)


def test_a_hair_colour_takes_the_place_of_another():
    names = ["Black_Hair", "Smiling", "Blond_Hair", "Young"]
    seen = torch.tensor([[1.0, -1, -1, 1], [-1, 1, 1, -1], [-1, -1, -1, -1]])
    for words, expected in {
        (): seen,
        ("Blond_Hair=1",): [[-1, -1, 1, 1], [-1, 1, 1, -1], [-1, -1, 1, -1]],
        "Smiling=0": [[1, -1, -1, 1], [-1, -1, 1, -1], [-1, -1, -1, -1]],
        ("Blond_Hair=0", "Smiling=1"): [[1, 1, -1, 1], [-1, 1, -1, -1], [-1, 1, -1, -1]],
        ("Young=1", "Black_Hair=1"): [[1, -1, -1, 1], [1, 1, -1, 1], [1, -1, -1, 1]],
    }.items():
        new = icgan.changed(seen, *icgan.asked(words, names), names)
        assert new.tolist() == torch.as_tensor(expected).tolist()


def test_what_is_set_is_drawn(trained, tmp_path):
    """The picture of a photo is what the generator makes of its noise and the attributes asked for,
    as strongly as they are."""
    application, run = trained
    if application is not icgan:
        pytest.skip("of IcGAN")
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 90, 3), dtype=np.uint8))
    photo.save(tmp_path / "photo.png")
    config = icgan.Use(
        input=str(tmp_path / "photo.png"), out_dir=str(tmp_path / "out"), device="cpu",
        path_checkpoint=str(run), set=("Blond_Hair=1", "Young=0", "Smiling=1", "Black_Hair=0"),
        strength=0.75,
    )  # fmt: skip
    net = common.load_net(config, "icgan", icgan.build)
    image = common.to_images(torch.tensor(np.asarray(photo))[None, :, 13:77])
    with torch.no_grad():
        code = torch.cat([net.encoders["z"](image), 0.75 * torch.tensor([[-1.0, 1, 1, -1]])], 1)
        made = net.generator(code[..., None, None])[0].permute(1, 2, 0)
    icgan.use(config)
    found = np.asarray(Image.open(tmp_path / "out/photo.png"))
    assert np.array_equal(found, ((made + 1) * 127.5).round().numpy())


def test_attributes_are_those_of_the_images_that_are_left(images, tmp_path):
    """By their names, also where some cannot be read, and only the first so many are used."""
    folder = tmp_path / "faces"
    shutil.copytree(images, folder)
    (folder / "003.png").write_text("broken")
    config = small_config(icgan, folder, tmp_path)
    config.max_images, config.skip_bad_images = 20, True
    learnt, apart, config = common.open_images(config, torch.device("cpu"))
    names, values = icgan.asked_attributes(config, len(learnt.images) + len(apart))
    left = [number for number in range(1, 21) if number != 4]
    columns = [NAMES.split().index(name) for name in names]
    assert values.tolist() == [[bool(n & 2**k) for k in columns] for n in left]


def test_rows_of_attributes_may_have_spaces_and_folders(tmp_path):
    path = tmp_path / "attributes.txt"
    path.write_text("3\nMale Young\na b.jpg 1 -1\none/c.jpg -1 1\ntwo/c.jpg -1 -1\n")
    names, values = common.read_attributes(path, ["x/a b.jpg", "one/c.jpg", "two/c.jpg"])
    assert names == ["Male", "Young"]
    assert values.tolist() == [[True, False], [False, True], [False, False]]
    with pytest.raises(RunError, match="several images are called a b.jpg"):
        common.read_attributes(path, ["x/a b.jpg", "y/a b.jpg"])


def test_drawn_faces_know_their_attributes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn.draw_faces(DRAWN_FACES, 12)
    config = icgan.Config(
        data_dir=DRAWN_FACES, attributes_file="none", attributes="Male, Bangs,Male "
    )
    names, values = icgan.asked_attributes(config, 12)
    told = [drawn.attributes(seed) for seed in range(1, 13)]
    assert values.tolist() == [[row["Male"], row["Bangs"]] for row in told]
    assert names == ["Male", "Bangs"] and 0 < values.sum() < values.size


# --- sentences

# As in faults/test_sentences.py: a command, and the sentence that ends it or, in NOTES, is printed.
ERRORS = """
context_encoder.py --input missing --out-dir out
    input missing does not exist; name a picture or a folder of them.
context_encoder.py --input notes.txt --out-dir out
    input notes.txt is neither a folder nor a picture (.bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp); name another.
context_encoder.py --input empty --out-dir out
    input empty has no images in it (.bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp).
context_encoder.py --input photos --out-dir photos/out
    out_dir photos/out lies in input photos, so what is made would be an input the next time; name another folder.
context_encoder.py --input photos --out-dir many
    out_dir many has files in it already; name a new folder.
context_encoder.py --input photos --out-dir notes.txt
    notes.txt could not be written: notes.txt is a file; name a new folder.
context_encoder.py --input broken.jpg --out-dir new1
    none of the pictures of input broken.jpg could be used; name others.
context_encoder.py --input photos --out-dir out --path-checkpoint other.pkl
    other.pkl is of another net than applications.context_encoder has; name a run or a file of it.
context_encoder.py --input photos --out-dir out --path-checkpoint text.pkl
    text.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values; use another one.
context_encoder.py --input photos --out-dir out --path-checkpoint=
    neither a run in log_gan/context_encoder nor nowhere/context_encoder.pkl has a checkpoint; train one with python -m applications.context_encoder, or name a file with --path-checkpoint.
context_encoder.py --input photos --out-dir out --mask black.png
    mask black.png has no white in it (what is darker than half counts as black); paint white what is to be filled in.
context_encoder.py --input photos --out-dir out --mask missing.png
    mask missing.png is no file; name one picture.
context_encoder.py --input photos --out-dir out --mask photos
    mask photos is no file; name one picture.
context_encoder.py --input photos --out-dir out --mask white.png
    mask white.png is white everywhere, as what is transparent is, too; paint black what is to stay.
context_encoder.py --input photos --out-dir out --mask clear.png
    mask clear.png is white everywhere, as what is transparent is, too; paint black what is to stay.
context_encoder.py --input photos/000.png --out-dir new2 --mask most.png
    none of the pictures of input photos/000.png could be used; name others.
context_encoder.py --input photos --out-dir out --device cuda:99
    device cuda:99 cannot be used here (...); try cpu.
context_encoder.py --input= --out-dir out
    input is empty; it must be a path.
pix2pix.py --resume of_icgan
    of_icgan is no run to go on with: its config.json cannot be read (it is of another script, for this one has no attributes; if it had it once, put that back, or take it out of there).
context_encoder.py --data-dir few
    few gives 9 images; a tenth of them is kept apart, so use 10 or more.
context_encoder.py --data-dir many --out-dir many/runs
    out_dir many/runs lies in data_dir many, so the next run would train on the pictures of this one; name another place for one of them.
context_encoder.py --random-blocks 2
    random_blocks is 2.0; it must be from 0 to 1.
context_encoder.py --adversarial -1
    adversarial is -1.0; it must be from 0 to 1000.
icgan.py --input photos --out-dir out --path-checkpoint icgan.pkl --set Smiling=1 Hat=1
    set has Hat=1, which is no NAME=0 or NAME=1 of what these weights can change: Blond_Hair, Smiling.
icgan.py --input photos --out-dir out --path-checkpoint icgan.pkl --set Smiling=yes
    set has Smiling=yes, which is no NAME=0 or NAME=1 of what these weights can change: Blond_Hair, Smiling.
icgan.py --input photos --out-dir out --path-checkpoint icgan_hair.pkl --set Black_Hair=1 --set Blond_Hair=1
    set has Black_Hair=1, Blond_Hair=1: a face cannot be all of that; ask for less.
icgan.py --input photos --out-dir out --path-checkpoint icgan.pkl --set Smiling=1 Smiling=0
    set has Smiling=1, Smiling=0: a face cannot be all of that; ask for less.
icgan.py --data-dir many --set Smiling=1
    --set is for using what has been trained; add --input, too.
icgan.py --input noise --out-dir photos --path-checkpoint icgan.pkl
    out_dir photos has files in it already; name a new folder.
icgan.py --input photos --out-dir out
    weights.pkl is of another net than applications.icgan has; name a run or a file of it.
icgan.py --data-dir many --attributes-file missing.txt
    attributes_file missing.txt does not tell the attributes of the images (there is no such file); name CelebA's list_attr_celeba.txt, which is at https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, or one like it.
icgan.py --data-dir many --attributes-file notes.txt
    attributes_file notes.txt does not tell the attributes of the images (not enough values to unpack (expected at least 2, got 1)); name CelebA's ...
icgan.py --data-dir many --attributes-file fewer.txt
    attributes_file fewer.txt does not tell the attributes of the images (no row for '009.png'); name CelebA's ...
icgan.py --data-dir many --attributes-file known.txt --attributes Young,Hat
    attributes has Hat, which is not told of these images; told are Smiling, Black_Hair, Blond_Hair, Gray_Hair, Young.
icgan.py --data-dir many --attributes-file known.txt --attributes=
    attributes has an empty name, which is not told of these images; told are Smiling, Black_Hair, Blond_Hair, Gray_Hair, Young.
icgan.py --data-dir many --attributes-file known.txt --attributes Young
    num_epochs is 1; it must be more than gan_epochs (12), for only then the noise of a photo is learnt.
srgan.py --input large --out-dir new3 --path-checkpoint srgan.pkl
    none of the pictures of input large could be used; name others.
srgan.py --input photos --out-dir out
    weights.pkl is of another net than applications.srgan has; name a run or a file of it.
pix2pix.py --data-dir many --direction AtoB
    000.png of many is 40 x 48 pixels, no pair of pictures side by side; name a folder or .zip of pairs.
pix2pix.py --direction up
    direction is up; it must be sketch, AtoB or BtoA.
cyclegan.py --data-b few
    few gives 9 images; a tenth of them is kept apart, so use 10 or more.
cyclegan.py --data-a many --data-b photos --out-dir photos/runs
    out_dir photos/runs lies in data_b photos, so the next run would train on the pictures of this one; name another place for one of them.
cyclegan.py --data-a missing --data-b many
    data_a missing does not exist; name a folder or .zip of images.
srgan.py --content edges
    content is edges; it must be discriminator or vgg.
srgan.py --content vgg
    the weights of VGG19 cannot be loaded (no network); put the file of https://download.pytorch.org/models/vgg19-....pth into .../checkpoints, or leave content at discriminator.
"""
NOTES = """
context_encoder.py --input photos --out-dir out1
    Using weights.pkl
context_encoder.py --input photos --out-dir out2
    Passed over broken.jpg: photos/broken.jpg is not a readable image (of an unknown format).
context_encoder.py --input photos --out-dir out3
    Passed over in photos: 1 .heic; convert them to use them too.
context_encoder.py --input photos --out-dir out4
    4 written to out4; inputs above outputs: out4/overview.png
context_encoder.py --input photos --out-dir out5 --mask most.png
    Passed over 000.png: no square of it has all of the hole in it; use a smaller mask.
context_encoder.py --input mixed --out-dir out8
    Passed over dot.png: it has fewer than 2 pixels a side; use a larger one.
srgan.py --input mixed --out-dir out6 --path-checkpoint srgan.pkl
    Passed over large.png: it has 4,002,000 pixels; of more than 4 million make a part.
cyclegan.py --data-b many
    No CelebA at data/img_align_celeba or data/img_align_celeba.zip; going on with generated faces.
icgan.py --input noise --out-dir out7 --path-checkpoint icgan.pkl --set Smiling=1
    8 faces, each as it is and with every change, are in out7/faces.png
icgan.py --data-dir many --attributes-file known.txt --attributes Young --num-epochs 2 --gan-epochs 1
    Training the classifier that the figures need; --resume does it again.
context_encoder.py --data-dir many
    On 1 images that were not trained on (log_gan/context_encoder/run1/figures.json):
"""
MAINS = {f"{name_of(application)}.py": application.main for application in SMALL}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A folder with all that the commands name."""
    folder = tmp_path_factory.mktemp("scene")
    make_photos(folder / "photos")
    save_images(folder / "few", 9)
    save_images(folder / "many", 10)
    (folder / "empty").mkdir()
    for name in ("notes.txt", "text.pkl", "broken.jpg"):
        (folder / name).write_text("a text")
    for name in ("black", "white"):
        Image.new("L", (9, 9), name).save(folder / f"{name}.png")
    most = Image.new("L", (9, 9), "white")
    most.putpixel((4, 4), 0)
    most.save(folder / "most.png")
    clear = Image.new("RGBA", (9, 9))
    clear.putpixel((4, 4), (255, 255, 255, 255))
    clear.save(folder / "clear.png")
    save_images(folder / "mixed", 1)
    for inside in ("mixed", "large"):
        (folder / inside).mkdir(exist_ok=True)
        Image.new("L", (2001, 2000)).save(folder / inside / "large.png")
    Image.new("L", (1, 9)).save(folder / "mixed/dot.png")
    nets = {"weights": context_encoder.context_encoder(4), "srgan": srgan.SRResNet(4, 1)}
    nets["icgan"] = icgan.IcGAN(["Blond_Hair", "Smiling"], 3, 4, 4)
    nets["icgan_hair"] = icgan.IcGAN(["Blond_Hair", "Black_Hair"], 3, 4, 4)
    for name, count in {"known": 10, "fewer": 9}.items():
        write_attributes(folder / f"{name}.txt", sorted((folder / "many").iterdir())[:count])
    for name, net in nets.items():
        save_weights({"g_model_state_dict": net.state_dict()}, folder / f"{name}.pkl")
    save_weights({"g_model_state_dict": {"main.0.weight": torch.zeros(1)}}, folder / "other.pkl")
    (folder / "of_icgan").mkdir()
    (folder / "of_icgan/config.json").write_text(json.dumps(asdict(icgan.Config())))
    return folder


def run_in(folder, monkeypatch, capsys, command):
    """Run a command of the tables; gives its exit code, what it prints, and its errors."""
    script, *flags = command.split()
    if "--input" not in command:
        flags = ["--width", "4", "--batch-size", "4", "--num-epochs", "1"] + flags
    elif "--path-checkpoint" not in command:
        flags += ["--path-checkpoint", "weights.pkl"]
    flags = flags if "--device" in flags else [*flags, "--device", "cpu"]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [script, *flags])
    monkeypatch.setattr(common, "RELEASED", Path("nowhere"))
    monkeypatch.setattr("torchvision.models.vgg19", no_network)
    monkeypatch.setattr(cyclegan, "draw_noise", lambda *_, seed: [torch.randn(10, 100, 1, 1)])
    code = 0
    try:
        run_as_script(MAINS[script])
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


@pytest.mark.parametrize(("command", "sentence"), rows(ERRORS))
def test_an_error_is_one_sentence(scene, monkeypatch, capsys, command, sentence):
    before = contents(scene)
    code, _, error = run_in(scene, monkeypatch, capsys, command)
    assert code == 2 and before.items() <= contents(scene).items()  # nothing lost or changed
    assert matches(f"{command.split()[0]}: {sentence}\n", error), error


@pytest.mark.parametrize(("command", "sentence"), rows(NOTES))
def test_a_note_is_said_on_the_way(scene, monkeypatch, capsys, command, sentence):
    code, printed, error = run_in(scene, monkeypatch, capsys, command)
    assert code == 0, error
    assert any(matches(sentence, line) for line in printed.splitlines()), printed


def test_a_flag_that_using_lacks_is_explained_by_the_help_of_using(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["icgan.py", "--input", "photo.jpg"])
    with pytest.raises(SystemExit):
        icgan.main()
    printed = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "python -m applications.icgan --input x --help" in printed and "--out-dir" in printed


def test_the_tables_have_every_sentence_of_the_applications():
    tables = "".join(path.read_text() for path in ROOT.glob("tests/test_*.py"))
    for script in ROOT.glob("applications/*.py"):
        for node in ast.walk(ast.parse(script.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("RunError", "print"):
                inside = (piece for argument in node.args for piece in ast.walk(argument))
                pieces = [str(piece.value) for piece in inside if isinstance(piece, ast.Constant)]
                longest = max(pieces, key=len, default="").strip()
                assert longest in tables
