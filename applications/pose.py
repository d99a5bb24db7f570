"""The same person in another pose: pose guided generation (Ma et al. 2017, arXiv:1705.09368).

python -m applications.pose                      # train; draws people in two poses each on first use
python -m applications.pose --data-dir my_pairs  # yours: pairs side by side, and poses.json of them
python -m applications.pose --resume latest      # go on with an interrupted run
python -m applications.pose --input person.png --out-dir posed  # in poses that people take
python -m applications.pose --input people --out-dir posed --pose pose.json
python -m applications.pose --help               # every constant below is also a flag
"""

import signal
import sys

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not __spec__:  # started as a file, not by -m
        sys.path.append(f"{sys.path[0]}/..")

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import nn

from applications.common import (
    SIDE,
    TILE,
    TrainConfig,
    UseConfig,
    apply,
    as_pixels,
    checked_device,
    image_names,
    middle_square,
    open_images,
    open_net,
    save_figures,
    step,
    train_or_use,
    use_on_pictures,
)
from applications.nets import UNet, patch_discriminator
from common_tools import RunError, run_as_script, set_seed
from dcgan import initialize_weights
from drawings.poses import JOINTS, take_pose
from machinery.acceleration import autocast, fused_adam
from machinery.batches import to_images
from machinery.constants import Below1, Count, Free, Place, Rate, Seed, Weight
from machinery.ema import WeightAverage
from machinery.figures import ssim
from machinery.pictures import make_grid, to_pictures
from machinery.run import Run
from my_dataset import DRAWN_POSES


@dataclass
class Config(TrainConfig):
    """Learn to show people in other poses. With --input and --out-dir: yours (--input x --help tells
    more). Every constant can be edited in applications/pose.py or given as a flag."""

    data_dir: Free[Place] = DRAWN_POSES  # folder or .zip of pairs, side by side, and a poses.json
    num_epochs: Free[Count] = 40  # times through all the pairs but the tenth that is kept apart
    coarse_epochs: Count = 20  # of them the first, for stage 1; the others are for stage 2
    batch_size: Count = 16  # pairs in one iteration (of each process, under torchrun)
    width: Count = 24  # channels of the nets' first layers
    numbers: Count = 64  # in the middle of stage 1, through which the whole is seen at once
    width_d: Count = 32  # channels of the discriminator's first layer
    lr: Rate = 0.001  # learning rate of Adam, for both stages
    lr_d: Rate = 0.0004  # and for the discriminator
    on_body: Weight = 2.0  # how much more the error counts on the body than beside it
    l1: Weight = 20  # weight of the absolute error in stage 2, beside 1 for the adversarial loss
    ema_decay: Below1 = 0.999  # of the moving average of the nets' weights, which is what is used
    out_dir: Free[Place] = "log_gan/pose"  # each run gets a folder of its own in here


@dataclass
class Use(UseConfig):
    """Show people in other poses: of each picture the middle square, with the whole person in it."""

    out_dir: Place  # a new folder: a PNG for each input and pose, and a picture of them all
    pose: str = ""  # JSON of a pose or a list of poses; empty: poses that people take
    seed: Seed = 1  # of the poses that people take


METRICS = {
    "loss_l1": "absolute error",
    "loss_adversarial": "adversarial loss",
    "loss_d": "Loss_D",
    "d_real": "D(real)",
    "d_made": "D(made)",
}
# Right and left arms and legs, neck, shoulders, hips, and across the trunk; of JOINTS
LIMBS = [(0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (9, 10), (10, 11), (12, 13), (8, 9), (2, 3),
         (2, 8), (3, 9), (2, 9), (3, 8)]  # fmt: skip
SPOT, THICK, THIN = 0.03, 0.06, 0.02  # radius of a joint, of a limb, and of its inside, of the side
AMONG = 200  # people, among whom each is to be recognised
TAKEN = 6  # poses without --pose


class PoseNet(nn.Module):
    """Pictures and poses, as join gives them -> the people in these poses, (N, 3, 64, 64).

    Stage 1 draws them, blurred where it cannot be sure; stage 2 looks at that and at the picture, and
    adds what is missing: a difference, which is small and so learnt soon.
    """

    def __init__(self, width, numbers):
        super().__init__()
        size = 4 * width, SIDE // 16, SIDE // 16  # what is smallest in stage 1
        middle = nn.Sequential(
            *(nn.Flatten(), nn.Linear(size[0] * size[1] * size[2], numbers), nn.ReLU()),
            *(nn.Linear(numbers, size[0] * size[1] * size[2]), nn.Unflatten(1, size)),
        )
        widths = [width, 2 * width, 4 * width]
        self.coarse = UNet(3 + len(JOINTS), 3, [*widths, 4 * width], middle)
        self.fine = UNet(6, 3, widths, nn.Identity())

    def forward(self, inputs):
        coarse = self.coarse(inputs)
        return coarse + self.fine(torch.cat([coarse, inputs[:, :3]], 1))


def middles(device):
    """Where the pixels' middles are along a side, as shares of it, (SIDE,)."""
    return (torch.arange(SIDE, device=device) + 0.5) / SIDE


def join(pictures, poses):
    """Pictures (N, 3, 64, 64) and poses to take, (N, 14, 2), as stage 1 sees them: with a map of each
    joint, on which it is a light spot, (N, 17, 64, 64)."""
    away = middles(poses.device) - poses[..., None]
    across, down = torch.exp(-away.square() / (2 * SPOT**2)).unbind(2)
    maps = down[..., :, None] * across[..., None, :] * 2 - 1
    return torch.cat([pictures, maps.to(pictures.dtype)], 1)


def limbs(poses, radius):
    """Where the limbs of poses (N, 14, 2) are: bool (N, limbs, SIDE, SIDE), within the radius of the
    line from joint to joint."""
    start, end = (poses[:, ends, :, None, None] for ends in zip(*LIMBS))
    (x, y), (along_x, along_y) = start.unbind(2), (end - start).unbind(2)
    x, y = middles(poses.device) - x, middles(poses.device)[:, None] - y
    square = (along_x**2 + along_y**2).clamp(min=1e-9)
    share = (x * (along_x / square) + y * (along_y / square)).clamp(0, 1)
    return (x - share * along_x) ** 2 + (y - share * along_y) ** 2 < radius**2


def body(poses):
    """The paper's mask of poses (N, 14, 2): a skeleton made thick, 0 or 1, (N, 1, SIDE, SIDE)."""
    return limbs(poses, THICK).any(1, keepdim=True).float()


def train_step(given, pose, real, net, discriminator, optimizers, config, fine):
    """One iteration: a step of stage 1 by L1; if fine, one of D and one of stage 2 by D and L1.

    given, real: (N, 3, 64, 64) in [-1, 1]; pose: that of real, (N, 14, 2); optimizers: of stage 1,
    stage 2 and D. Returns the METRICS, on the device.
    """
    half, inputs = autocast(real.device, config.bf16), join(given, pose)
    weight = 1 + config.on_body * body(pose)
    with half:
        made = (net if fine else net.coarse)(inputs)
    made = made.to(real.dtype)
    loss = l1 = ((made - real).abs() * weight).mean()
    numbers = [l1, *torch.zeros(4, device=real.device)]
    stage, optimizer = (net.fine, optimizers[1]) if fine else (net.coarse, optimizers[0])
    if fine:
        # (1) D: is the second picture of the same person as the first, and real?
        pair = torch.cat([given, made], 1)
        with half:
            logits_real = discriminator(torch.cat([given, real], 1)).float()
            logits_made = discriminator(pair.detach()).float()
        loss_d = (F.softplus(-logits_real).mean() + F.softplus(logits_made).mean()) / 2
        step(loss_d, discriminator, optimizers[2])

        with half:
            fooled = F.softplus(-discriminator(pair).float()).mean()
        loss = fooled + config.l1 * l1
        numbers = [l1, fooled, loss_d, logits_real.sigmoid().mean(), logits_made.sigmoid().mean()]

    # (2) The stage whose turn it is
    step(loss, stage, optimizer)
    return torch.stack(numbers).detach()


def train(config: Config) -> Path:
    """Train as config says, or go on with the run folder config.resume. Returns the run's folder.

    Raises RunError, with a sentence for the user, for bad input and for what stops a Run.
    """
    device = checked_device(config)
    if config.num_epochs <= config.coarse_epochs:
        raise RunError(
            f"num_epochs is {config.num_epochs}; it must be more than coarse_epochs "
            f"({config.coarse_epochs}), for only then stage 2 learns."
        )
    data, kept_apart, config = open_images(config, device, nc=6)
    poses = read_poses(config.data_dir, image_names(config, len(data.images) + len(kept_apart)))
    data.labels, poses_apart = poses.split([len(data.images), len(kept_apart)])
    data.fingerprint = zlib.crc32(data.labels.numpy().tobytes(), data.fingerprint)
    data.horizontal_flip = False  # a mirrored person's right would be the left
    given, truth = to_images(torch.tensor(kept_apart)).to(device).split(3, 1)
    poses_given, poses = poses_apart.to(device).unbind(1)

    set_seed(config.seed)
    net = PoseNet(config.width, config.numbers)
    discriminator = patch_discriminator(6, config.width_d, nn.BatchNorm2d)
    for each in (net, discriminator):
        initialize_weights(each)
        each.to(device, memory_format=torch.channels_last)
    nn.init.zeros_(net.fine.last.weight)  # at first it adds nothing
    optimizers = [fused_adam(each, config.lr, beta1=0.5) for each in (net.coarse, net.fine)]
    optimizers.append(fused_adam(discriminator, config.lr_d, beta1=0.5))
    average = WeightAverage(net, config.ema_decay)
    parts = {"g_model": net, "d_model": discriminator, "g_ema_model": average.net}
    parts |= dict(zip(["coarse_optimizer", "fine_optimizer", "d_optimizer"], optimizers))
    first, real = to_images(torch.tensor(data.images[:512])).to(device).split(3, 1)
    inputs = join(first, data.labels[:512, 1].to(device))  # for BatchNorm's statistics

    with Run(config, parts, METRICS, data) as run:
        run.save_picture("real.png", lambda: make_grid(torch.cat([first[:8], real[:8]]), 8))
        for epoch in run.epochs():
            fine = epoch >= config.coarse_epochs
            if fine:  # from here on stage 1 stays as its average is
                net.coarse.load_state_dict(average.net.coarse.state_dict())
            net.train().coarse.train(not fine)
            ahead = (config.num_epochs - epoch) / max(1, config.num_epochs - config.coarse_epochs)
            for each, rate in zip(optimizers, (config.lr, config.lr, config.lr_d)):
                each.param_groups[0]["lr"].fill_(rate * min(1, 2 * ahead))  # falls in stage 2
            for pairs, both in run.batches():
                average.set_share(run.step)
                there = torch.rand(()) < 0.5  # or back: each pair is two examples
                pair = pairs.split(3, 1)[:: 1 if there else -1]
                example = pair[0], both[:, int(there)], pair[1]
                run.count(train_step(*example, net, discriminator, optimizers, config, fine))
                average.update(net)
            average.count_statistics(inputs.split(64))
            run.end_epoch(lambda: triples(average.net, given[:8], poses[:8], truth[:8]))
    inputs = join(given, poses)
    made = {"the picture as it is": given, "stage 1": apply(average.net.coarse, inputs)}
    made |= {"both stages": apply(average.net, inputs), "the truth": truth}
    save_figures(run.folder, figures(made, given, poses_given, truth, poses), len(truth))
    return run.folder


def read_poses(source, files):
    """The two poses of each of these pairs, (N, 2, 14, 2), from the poses.json of a folder or zip.

    It is {"a.png": [[[x, y], ...], [[x, y], ...]], ...}: of the left person and of the right one the
    JOINTS, as shares of a picture's sides. Raises RunError where it is not there, or not so.
    """
    path = (Path if Path(source).is_dir() else zipfile.Path)(source, "poses.json")
    try:
        known = json.loads(path.read_bytes())
        return torch.stack([to_poses(known[file], 2) for file in files])
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, BadZipFile) as error:
        reason = f"nothing of {error}" if isinstance(error, KeyError) else error
        if isinstance(error, FileNotFoundError):
            reason = "there is no such file"
        raise RunError(
            f"{path} does not tell the poses of the pairs ({reason}); it must have, of each file, two "
            f"lists of {len(JOINTS)} joints [x, y], as shares of a picture's sides."
        ) from error


def to_poses(value, count=None):
    """Poses as JSON has them -> (count, 14, 2). Raises ValueError or TypeError for anything else."""
    poses = np.array(value, np.float32)
    if poses.ndim != 3 or poses.shape[1:] != (len(JOINTS), 2) or count not in (None, len(poses)):
        raise ValueError(f"lists of {' x '.join(map(str, poses.shape)) or 'no'} numbers")
    if np.isnan(poses).any():
        raise ValueError("a joint that is no number, such as null")
    if not (np.abs(poses - 0.5) < 0.75).all():
        raise ValueError("joints far outside the picture")
    return torch.tensor(poses)


def triples(net, given, poses, truth):
    """The picture of an epoch: people, how they are drawn in another pose, and the truth."""
    return make_grid(torch.cat([given, apply(net, join(given, poses)), truth]), len(truth))


def figures(made, given, poses_given, truth, poses):
    """Of {name: images}: SSIM to the truth, that on the body alone, and how often, in percent, the
    person is recognised among the first AMONG.

    A person is recognised if the colours inside the limbs are nearest to those of the same person's
    given picture. given, truth: (N, 3, 64, 64) in [-1, 1]; their poses: (N, 14, 2).
    """
    rows, masks = {}, body(poses)[:, 0].cpu().numpy()
    known = colours(given[:AMONG], poses_given[:AMONG])
    for name, images in made.items():
        alike = ssim(as_pixels(images), as_pixels(truth))
        nearest = torch.cdist(colours(images[:AMONG], poses[:AMONG]), known, p=1).argmin(1).cpu()
        rows[name] = {
            "SSIM": float(alike.mean()),
            "on body": float((alike * masks).sum() / masks.sum()),
            "found": 100 * float((nearest == torch.arange(len(nearest))).double().mean()),
        }
    return rows


def colours(images, poses):
    """The mean colour inside each limb, (N, limbs * 3), of images (N, 3, SIDE, SIDE) in [-1, 1]."""
    inside = limbs(poses, THIN).to(images.dtype)
    sums = torch.einsum("nlhw,nchw->nlc", inside, images.clamp(-1, 1))
    return (sums / inside.sum((2, 3))[..., None].clamp(min=1)).flatten(1)


# --- using it


def use(config: Use) -> list[Path]:
    """Show each person that config names in each pose; returns the paths of what was written.

    Raises RunError, with a sentence for the user, for bad input.
    """
    net = open_net(config, "pose", build)
    if config.pose:
        poses = open_poses(config.pose)
    else:
        poses = to_poses([take_pose(TAKEN * config.seed + number) for number in range(TAKEN)])
    heads = [stick_figure(pose) for pose in poses.tolist()]
    poses = poses.to(net.fine.last.weight.device)
    return use_on_pictures(config, lambda picture: pose_picture(net, picture, poses), heads)


def build(weights):
    """The net of a state dict."""
    width = weights["coarse.encoder.0.0.weight"].shape[0]
    return PoseNet(width, weights["coarse.middle.1.weight"].shape[0])


def open_poses(path):
    """The pose or poses of a JSON file, (P, 14, 2). Raises RunError where it has none."""
    try:
        value = json.loads(Path(path).read_bytes())
        return to_poses([value] if np.ndim(value) == 2 else value)
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RunError(
            f"pose {path} has no poses in it ({error}); it must be a list of {len(JOINTS)} joints [x, y], "
            "as shares of the picture's sides, or a list of such lists."
        ) from error


def pose_picture(net, picture, poses):
    """Of a PIL image (RGB) the middle square at 64 x 64, and the person in it in each of the poses."""
    given = middle_square(picture, poses.device)
    made = apply(net, join(given.expand(len(poses), -1, -1, -1), poses))
    return tuple(to_pictures(torch.cat([given, made])))


def stick_figure(pose):
    """A pose (14 x 2) as a drawing, a PIL image: the right side in blue, the left one in red."""
    sheet = Image.new("RGB", (TILE, TILE), "white")
    for number, limb in enumerate(LIMBS[:13]):
        ends = [(TILE * pose[joint][0], TILE * pose[joint][1]) for joint in limb]
        colour = ("steelblue", "indianred")[number // 2 % 2] if number < 8 else "grey"
        ImageDraw.Draw(sheet).line(ends, colour, 4)
    return sheet


def main():
    train_or_use(train, Config, use, Use)


if __name__ == "__main__":
    run_as_script(main)
