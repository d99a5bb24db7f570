"""PixelDTGAN and Pose: each trains on pairs, goes on to the same end, is used on pictures, and its
figures hold."""

import itertools
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from conftest import assert_same_run, save_images
from faults.test_sentences import contents, matches, rows
from PIL import Image

from applications import common, pixeldtgan, pose
from common_tools import run_as_script
from drawings.people import draw_garment, draw_person
from drawings.poses import take_pose
from machinery.checkpoints import save_checkpoint
from machinery.constants import saved_config
from machinery.figures import ssim

SMALL = {
    pixeldtgan: {"nz": 4, "width": 4, "ngf": 4, "ndf": 4},
    pose: {"width": 4, "numbers": 4, "width_d": 4, "coarse_epochs": 1},
}


def name_of(application):
    return application.__name__.rpartition(".")[2]


def save_pairs(folder, count):
    """Pairs of random colours, side by side, and their poses."""
    save_images(folder, count, (80, 40))
    poses = {
        f"{n:03d}.png": [take_pose(n).tolist(), take_pose(n + 99).tolist()] for n in range(count)
    }
    (folder / "poses.json").write_text(json.dumps(poses))
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return save_pairs(tmp_path_factory.mktemp("pairs"), 26)


def small_config(application, pairs, folder):
    places = {"data_dir": pairs, "cache_dir": folder / "cache", "out_dir": folder / "runs"}
    places = {name: str(path) for name, path in places.items()}
    sizes = {"batch_size": 8, "num_epochs": 2, "device": "cpu"}
    return application.Config(**places, **sizes, **SMALL[application])


@pytest.fixture(scope="module", params=SMALL, ids=name_of)
def trained(request, pairs, tmp_path_factory):
    """An application, and a run of it that nothing interrupted."""
    folder = tmp_path_factory.mktemp(name_of(request.param))
    return request.param, request.param.train(small_config(request.param, pairs, folder))


@pytest.fixture(scope="module")
def posing(pairs, tmp_path_factory):
    return pose.train(small_config(pose, pairs, tmp_path_factory.mktemp("posing")))


def use(application, run, **constants):
    return application.use(application.Use(path_checkpoint=str(run), device="cpu", **constants))


def to_images(pixels):
    return torch.tensor(np.stack(pixels)).permute(0, 3, 1, 2) / 127.5 - 1


# --- what both have


@pytest.mark.parametrize("kill_after", [3, 5])  # iterations; an epoch has three
def test_killed_it_goes_on_to_the_same_end(trained, pairs, tmp_path, monkeypatch, kill_after):
    class Killed(BaseException):
        pass

    application, whole = trained
    config, steps = small_config(application, pairs, tmp_path), itertools.count()
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


def test_it_is_used_on_a_folder_with_a_broken_file(trained, tmp_path, capsys):
    application, run = trained
    save_images(tmp_path / "in", 1)
    save_images(tmp_path / "in", 1, (70, 30), ".jpg")
    (tmp_path / "in/broken.png").write_bytes(b"broken")
    written = use(application, run, input=str(tmp_path / "in"), out_dir=str(tmp_path / "out"))
    numbers = [""] if application is pixeldtgan else [f"_{n}" for n in range(1, 7)]
    names = [f"{stem}{number}.png" for stem in ("000", "000.png") for number in numbers]
    assert [path.name for path in written] == [*names, "overview.png"]
    assert set(written) == {*contents(tmp_path / "out")}
    assert all(Image.open(path).size == (64, 64) for path in written[:-1])
    assert capsys.readouterr().out.count("Passed over broken.png") == 1


def test_the_net_is_built_from_its_weights():
    """Of sizes that differ from each other, so that none stands for another."""
    for application, net in [
        (pixeldtgan, pixeldtgan.converter(3, 5, 7)),
        (pose, pose.PoseNet(5, 7)),
    ]:
        again = application.build(net.state_dict())
        again.load_state_dict(net.state_dict())


# --- PixelDTGAN


def test_all_goes_through_the_bottleneck():
    net = pixeldtgan.converter(4, 3, 5).eval()
    with torch.no_grad():
        code = net[0](torch.rand(2, 3, 64, 64))
        assert code.shape == (2, 4) and net(torch.rand(2, 3, 64, 64)).shape == (2, 3, 64, 64)


def test_a_step_of_pixeldtgan_written_out_again():
    torch.manual_seed(0)
    given, real = torch.rand(2, 4, 3, 64, 64, dtype=torch.float64) * 2 - 1
    net = pixeldtgan.converter(3, 4, 4).double()
    ds = {"real": pixeldtgan.Discriminator(3, 4), "pair": pixeldtgan.Discriminator(6, 4)}
    ds = torch.nn.ModuleDict(ds).double()
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.0) for each in (net, ds)]
    config = pixeldtgan.Config(bf16=False, l1=3.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixeldtgan, "augment", lambda images, policy: images)
        numbers = pixeldtgan.train_step(given, real, net, ds, *optimizers, config)
    made = net(given)
    others = real[[3, 0, 1, 2]]
    p_real, p_made = ds["real"](real), ds["real"](made)
    p_pair, p_other, p_pair_made = (
        ds["pair"](torch.cat([given, each], 1)) for each in (real, others, made)
    )
    l1 = (made - real).abs().mean()
    loss_d = -p_real.log().mean() - (1 - p_made).log().mean() - p_pair.log().mean()
    loss_d = loss_d - ((1 - p_other).log() + (1 - p_pair_made).log()).mean() / 2
    as_real, as_own = -p_made.log().mean(), -p_pair_made.log().mean()
    expected = [l1, as_real, as_own, loss_d]
    expected += [each.mean() for each in (p_real, p_made, p_pair, p_other)]
    assert torch.allclose(numbers, torch.stack(expected), rtol=1e-5)
    weight = net[2].main[0].weight
    gradient = torch.autograd.grad(as_real / 2 + as_own / 2 + 3 * l1, weight)[0]
    assert torch.allclose(weight.grad, gradient, rtol=1e-4, atol=1e-7)


def test_the_figures_of_pixeldtgan():
    """Garments of one colour in the middle of white; of four that are made, the last two are swapped,
    and one is 30 levels lighter in its red."""
    colors = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [120, 120, 40]], np.uint8)
    truth = np.full((4, 64, 64, 3), 250, np.uint8)
    truth[:, 20:44, 12:52] = colors[:, None, None]
    made = truth[[0, 1, 3, 2]]
    made[1, ..., 0] += np.uint8(30) * (made[1, ..., 0] < 100)
    found = pixeldtgan.figures({"made": to_images(made)}, to_images(truth))["made"]
    swapped = abs(colors[2].astype(int) - colors[3]).mean()
    assert found["first"] == 50
    assert found["colour"] == pytest.approx((0 + 30 / 3 + 2 * swapped) / 4)
    perfect = pixeldtgan.figures({"made": to_images(truth)}, to_images(truth))["made"]
    assert perfect == {"first": 100, "colour": 0, "SWD": 0, "SWD 64": 0} and found["SWD"] > 0


def test_the_released_weights_show_garments():
    """Of thirty people who were not trained on; most are nearest to their own garment."""
    seeds, released = range(3601, 3631), common.RELEASED / "pixeldtgan.pkl"
    assert released.stat().st_size < 2.1e6
    config = pixeldtgan.Use(input="", out_dir="", path_checkpoint=str(released))
    net = common.load_net(config, "pixeldtgan", pixeldtgan.build)
    poses = [take_pose(n, behind=False) for n in seeds]
    given = to_images([np.asarray(draw_person(n, each, 64)) for n, each in zip(seeds, poses)])
    truth = to_images([np.asarray(draw_garment(n, 64)) for n in seeds])
    found = pixeldtgan.figures({"made": common.apply(net, given)}, truth)["made"]
    assert found["first"] >= 60


# --- Pose


def distance(point, start, end):
    """From a point to the line between two."""
    along = end - start
    share = np.dot(point - start, along) / max(np.dot(along, along), 1e-9)
    return np.hypot(*(point - start - np.clip(share, 0, 1) * along))


def test_joints_are_light_spots_and_the_body_is_a_thick_skeleton():
    poses = torch.tensor(np.stack([take_pose(1), take_pose(2)])).float()
    inputs, masks = pose.join(torch.zeros(2, 3, 64, 64), poses), pose.body(poses)
    assert inputs.shape == (2, 17, 64, 64) and masks.shape == (2, 1, 64, 64)
    assert -1 <= inputs.min() and inputs.max() <= 1
    for n, k in itertools.product(range(2), range(14)):
        row, column = divmod(int(inputs[n, 3 + k].argmax()), 64)
        assert np.allclose(np.array([column + 0.5, row + 0.5]) / 64, poses[n, k], atol=0.009)
    for x, y in np.random.default_rng(1).integers(0, 64, (300, 2)):
        point = np.array([x + 0.5, y + 0.5]) / 64
        near = min(distance(point, *poses[1, [*limb]].numpy()) for limb in pose.LIMBS)
        assert (near < pose.THICK) == bool(masks[1, 0, y, x])


def test_the_mask_covers_the_people_that_are_drawn():
    """Nearly all that differs from a picture of the same person elsewhere lies in one of the masks."""
    for seed in range(1, 6):
        poses = np.stack([take_pose(2 * seed), take_pose(2 * seed + 1)])
        one, two = (np.asarray(draw_person(seed, each, 64), int) for each in poses)
        masks = pose.body(torch.tensor(poses).float()).amax((0, 1)).numpy() > 0
        differs = abs(one - two).max(2) > 24
        assert differs.sum() > 100 and (differs & masks).sum() > 0.85 * differs.sum()


def similarity(one, other):
    """SSIM around each pixel of two gray images, by its definition."""
    line = np.array([np.exp(-x * x / (2 * 1.5**2)) for x in range(-5, 6)])
    weight = np.outer(line, line) / np.outer(line, line).sum()
    one, other = (
        np.lib.stride_tricks.sliding_window_view(np.pad(each.astype(float), 5, "reflect"), (11, 11))
        for each in (one, other)
    )
    means = [(each * weight).sum((2, 3), keepdims=True) for each in (one, other)]
    parts = one - means[0], other - means[1]
    var_one, var_other, both = (
        (weight * a * b).sum((2, 3)) for a, b in [(parts[0], parts[0]), (parts[1], parts[1]), parts]
    )
    a, b = (mean[..., 0, 0] for mean in means)
    c1, c2 = 2.55**2, 7.65**2
    return (2 * a * b + c1) / (a * a + b * b + c1) * (2 * both + c2) / (var_one + var_other + c2)


def test_ssim_is_what_wang_et_al_define():
    random = np.random.default_rng(1)
    one = random.integers(0, 256, (2, 24, 20, 3), dtype=np.uint8)
    other = np.clip(one + random.normal(0, 40, one.shape), 0, 255).astype(np.uint8)
    other[1] = 255 - one[1]
    found = ssim(one, other)
    assert found.shape == (2, 24, 20) and found[0].mean() > 0.5 and found[1].mean() < 0
    for n in range(2):
        channels = [similarity(one[n, ..., c], other[n, ..., c]) for c in range(3)]
        assert np.allclose(found[n], np.mean(channels, 0), atol=1e-9)
    assert np.allclose(ssim(one, one), 1)


def test_the_figures_of_pose():
    """People drawn in another pose; those that are made are the truth but for two, who are swapped."""
    seeds, poses = range(1, 6), np.stack([take_pose(n) for n in range(20, 30)])
    given, truth = (
        np.stack([np.asarray(draw_person(n, each, 64)) for n, each in zip(seeds, half)])
        for half in (poses[:5], poses[5:])
    )
    other = np.asarray(draw_person(2, poses[5], 64)), np.asarray(draw_person(1, poses[6], 64))
    made = np.concatenate([np.stack(other), truth[2:]])
    before, after = torch.tensor(poses).float().split(5)
    named = {"as it is": to_images(given), "made": to_images(made), "truth": to_images(truth)}
    found = pose.figures(named, to_images(given), before, to_images(truth), after)
    assert found["truth"] == {"SSIM": pytest.approx(1), "on body": pytest.approx(1), "found": 100}
    assert found["made"]["found"] == 60
    masks = pose.body(after)[:, 0].numpy() > 0
    maps = [
        np.mean([similarity(a[..., c], b[..., c]) for c in range(3)], 0)
        for a, b in zip(made, truth, strict=True)
    ]
    assert found["made"]["SSIM"] == pytest.approx(np.mean(maps))
    assert found["made"]["on body"] == pytest.approx(np.stack(maps)[masks].mean())
    assert found["as it is"]["on body"] < found["made"]["on body"] < 1


@pytest.mark.parametrize("fine", [False, True])
def test_a_step_of_pose_written_out_again(fine):
    torch.manual_seed(0)
    given, real = torch.rand(2, 3, 3, 64, 64, dtype=torch.float64) * 2 - 1
    poses = torch.tensor(np.stack([take_pose(n) for n in range(3)]))
    net = pose.PoseNet(4, 3).double()
    d = pose.patch_discriminator(6, 4, torch.nn.BatchNorm2d).double()
    config = pose.Config(bf16=False, on_body=3.0, l1=5.0)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.0) for each in (net.coarse, net.fine, d)]
    numbers = pose.train_step(given, poses, real, net, d, optimizers, config, fine)
    inputs, mask = pose.join(given, poses), pose.body(poses).double()
    made = net.coarse(inputs)
    if fine:
        made = made + net.fine(torch.cat([made, given], 1))
    l1 = ((made - real).abs() * (mask * 4 + (1 - mask))).mean()
    total, layer, expected = l1, net.coarse.last, [l1, *torch.zeros(4, dtype=torch.float64)]
    if fine:
        p_real, p_made = (d(torch.cat([given, each], 1)).sigmoid() for each in (real, made))
        fooled, loss_d = -p_made.log().mean(), -(p_real.log() + (1 - p_made).log()).mean() / 2
        expected = [l1, fooled, loss_d, p_real.mean(), p_made.mean()]
        total, layer = fooled + 5 * l1, net.fine.last
    assert torch.allclose(numbers, torch.stack(expected), rtol=1e-5)
    gradient = torch.autograd.grad(total, layer.weight)[0]
    assert torch.allclose(layer.weight.grad, gradient, rtol=1e-4, atol=1e-7)
    assert fine == (net.coarse.last.weight.grad is None)  # only the stage whose turn it is learns


def test_stage_1_stays_as_it_is_while_stage_2_learns(posing):
    first, second = (
        torch.load(posing / f"checkpoint_{epoch}_epoch.pkl")["g_ema_model_state_dict"]
        for epoch in (0, 1)
    )
    for key in first:
        if "running" not in key and "tracked" not in key:
            assert torch.equal(first[key], second[key]) == key.startswith("coarse"), key


def test_each_half_is_learnt_with_its_own_pose(pairs, tmp_path, monkeypatch):
    """There and back: whichever half goes in, the pose is that of the other."""
    known, seen = json.loads((pairs / "poses.json").read_text()), []
    pixels = {name: np.asarray(Image.open(pairs / name), float) for name in known}

    def looking_step(given, poses, real, *_):
        for images in zip(given, poses, real):
            left, wanted, right = (
                each.permute(1, 2, 0) if each.ndim == 3 else each for each in images
            )
            at = [tuple((each[32, 32] + 1) * 127.5) for each in (left, right)]
            for name, file in pixels.items():
                halves = file[20, 20], file[20, 60]
                for turn in (0, 1):
                    if np.allclose(at, halves[:: 1 - 2 * turn], atol=9):
                        assert np.allclose(wanted, known[name][1 - turn], atol=1e-6)
                        seen.append(turn)
        return torch.zeros(5)

    monkeypatch.setattr(pose, "train_step", looking_step)
    config = small_config(pose, pairs, tmp_path)
    config.batch_size = 2
    pose.train(config)
    assert len(seen) == 48 and {*seen} == {0, 1}


def test_poses_come_from_a_zip_too(pairs, tmp_path):
    shutil.make_archive(str(tmp_path / "pairs"), "zip", pairs)
    files = ["003.png", "001.png"]
    inside, beside = (pose.read_poses(str(each), files) for each in (tmp_path / "pairs.zip", pairs))
    assert torch.equal(inside, beside) and inside.shape == (2, 2, 14, 2)
    assert np.allclose(inside[0, 1], take_pose(3 + 99))


def test_the_poses_of_a_file_are_drawn(posing, tmp_path):
    """One, or a list of them; each picture is what the net makes of the person and that pose."""
    save_images(tmp_path / "in", 2)
    net = common.load_net(
        pose.Use(input="", out_dir="", path_checkpoint=str(posing)), "pose", pose.build
    )
    for count in (1, 3):
        poses = [take_pose(n).tolist() for n in range(count)]
        path = tmp_path / f"{count}.json"
        path.write_text(json.dumps(poses if count > 1 else poses[0]))
        out = tmp_path / f"out{count}"
        use(pose, posing, input=str(tmp_path / "in"), out_dir=str(out), pose=str(path))
        assert len(contents(out)) == 2 * count + 1
        assert Image.open(out / "overview.png").size == ((1 + count) * 130 + 2, 3 * 130 + 2)
        given = Image.open(tmp_path / "in/001.png").resize((64, 76), 2).crop((0, 6, 64, 70))
        with torch.no_grad():
            made = net(pose.join(to_images([np.asarray(given)]), torch.tensor(poses[-1:])))
        found = np.asarray(Image.open(out / f"001_{count}.png"), float)
        made = ((made[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).numpy()
        assert abs(found - made).max() <= 1


def test_the_released_weights_show_people_in_other_poses():
    """Twenty who were not trained on: more alike than the picture as it is, and recognised."""
    seeds, released = range(3601, 3621), common.RELEASED / "pose.pkl"
    assert released.stat().st_size < 2.1e6
    config = pose.Use(input="", out_dir="", path_checkpoint=str(released))
    net = common.load_net(config, "pose", pose.build)
    poses = np.stack([[take_pose(2 * n), take_pose(2 * n + 1)] for n in seeds])
    given, truth = (
        to_images([np.asarray(draw_person(n, both[k], 64)) for n, both in zip(seeds, poses)])
        for k in (0, 1)
    )
    before, after = torch.tensor(poses).float().unbind(1)
    made = {"as it is": given, "made": common.apply(net, pose.join(given, after))}
    found = pose.figures(made, given, before, truth, after)
    assert found["made"]["on body"] > found["as it is"]["on body"] + 0.1
    assert found["made"]["found"] >= 70


# --- sentences

ERRORS = """
pixeldtgan.py --data-dir photos
    000.png of photos is 40 x 48 pixels, no pair of pictures side by side; name a folder or .zip of pairs.
pixeldtgan.py --input photos --out-dir out --path-checkpoint pose.pkl
    pose.pkl is of another net than applications.pixeldtgan has; name a run or a file of it.
pose.py --input photos --out-dir out --path-checkpoint pixeldtgan.pkl
    pixeldtgan.pkl is of another net than applications.pose has; name a run or a file of it.
pose.py --data-dir pairs --pose one.json
    --pose is for using what has been trained; add --input, too.
pose.py --data-dir pairs --num-epochs 1
    num_epochs is 1; it must be more than coarse_epochs (20), for only then stage 2 learns.
pixeldtgan.py --data-dir pairs --batch-size 1
    batch_size is 1; it must be 2 or more.
pose.py --data-dir no_poses
    .../no_poses/poses.json does not tell the poses of the pairs (there is no such file); it must have, of each file, two lists of 14 joints [x, y], as shares of a picture's sides.
pose.py --data-dir fewer
    .../fewer/poses.json does not tell the poses of the pairs (nothing of '009.png'); it must have, of each file, ...
pose.py --data-dir in_pixels
    .../in_pixels/poses.json does not tell the poses of the pairs (joints far outside the picture); it must have, of each file, ...
pose.py --data-dir no_poses.zip
    .../no_poses.zip/poses.json does not tell the poses of the pairs (there is no such file); it must have, of each file, ...
pose.py --input photos --out-dir out --pose missing.json
    pose missing.json has no poses in it ([Errno 2] No such file or directory: 'missing.json'); it must be a list of 14 joints [x, y], as shares of the picture's sides, or a list of such lists.
pose.py --input photos --out-dir out --pose notes.txt
    pose notes.txt has no poses in it (Expecting value: line 1 column 1 (char 0)); it must be a list of ...
pose.py --input photos --out-dir out --pose thirteen.json
    pose thirteen.json has no poses in it (lists of 1 x 13 x 2 numbers); it must be a list of ...
pose.py --input photos --out-dir out --pose unseen.json
    pose unseen.json has no poses in it (a joint that is no number, such as null); it must be a list of ...
pose.py --input photos --out-dir out --pose huge.json
    pose huge.json has no poses in it (...); it must be a list of ...
pose.py --input photos --out-dir out --pose ragged.json
    pose ragged.json has no poses in it (...); it must be a list of ...
pose.py --input photos --out-dir out --pose pairs/poses.json
    pose pairs/poses.json has no poses in it (...); it must be a list of ...
"""
NOTES = """
pixeldtgan.py --input photos --out-dir new1
    1 written to new1; inputs above outputs: new1/overview.png
pose.py --input photos --out-dir new2
    6 written to new2; inputs beside outputs: new2/overview.png
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A folder with all that the commands name."""
    folder = tmp_path_factory.mktemp("scene")
    save_images(folder / "photos", 1)
    poses = json.loads((save_pairs(folder / "pairs", 10) / "poses.json").read_text())
    for name in ("no_poses", "fewer", "in_pixels"):
        shutil.copytree(folder / "pairs", folder / name)
    (folder / "no_poses/poses.json").unlink()
    shutil.make_archive(str(folder / "no_poses"), "zip", folder / "no_poses")
    first = poses["000.png"][0]
    for name, value in {
        "fewer/poses": {name: poses[name] for name in list(poses)[:9]},
        "in_pixels/poses": {name: (np.array(both) * 64).tolist() for name, both in poses.items()},
        "one": first,
        "thirteen": first[:13],
        "ragged": [first, first[:13]],
        "unseen": [[None, None], *first[1:]],
        "huge": [[10**400, 0], *first[1:]],
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "notes.txt").write_text("a text")
    for name, net in {
        "pixeldtgan": pixeldtgan.converter(3, 4, 4),
        "pose": pose.PoseNet(4, 3),
    }.items():
        save_checkpoint({"g_model_state_dict": net.state_dict()}, folder / f"{name}.pkl")
    return folder


def run_in(folder, monkeypatch, capsys, command):
    """Run a command of the tables; gives its exit code, what it prints, and its errors."""
    script, *flags = command.split()
    if "--input" not in command:
        flags = ["--width", "4", "--batch-size", "4", "--num-epochs", "21"] + flags
    elif "--path-checkpoint" not in command:
        flags += ["--path-checkpoint", script.replace(".py", ".pkl")]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [script, *flags, "--device", "cpu"])
    code = 0
    try:
        run_as_script({"pixeldtgan.py": pixeldtgan.main, "pose.py": pose.main}[script])
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
