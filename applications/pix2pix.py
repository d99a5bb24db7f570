"""From one picture to another, learnt from pairs: Pix2Pix (Isola et al. 2017, arXiv:1611.07004).

python -m applications.pix2pix                         # train: from sketches to faces
python -m applications.pix2pix --data-dir my_faces.zip
python -m applications.pix2pix --data-dir facades/train --direction BtoA  # pairs A|B, side by side
python -m applications.pix2pix --resume latest         # go on with an interrupted run
python -m applications.pix2pix --input my_sketch.png --out-dir painted
python -m applications.pix2pix --help                  # every constant below is also a flag
"""

import signal
import sys

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not __spec__:  # started as a file, not by -m
        sys.path.append(f"{sys.path[0]}/..")

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from applications.common import (
    TrainConfig,
    UseConfig,
    apply,
    as_pixels,
    checked_device,
    middle_square,
    open_images,
    open_net,
    save_figures,
    step,
    train_or_use,
    use_on_pictures,
)
from applications.nets import UNet, patch_discriminator
from common_tools import run_as_script, set_seed
from dcgan import initialize_weights
from machinery.acceleration import autocast, fused_adam
from machinery.batches import to_images
from machinery.constants import Below1, Count, Free, Place, Rate, Weight, one_of
from machinery.ema import WeightAverage
from machinery.figures import descriptors, swd
from machinery.pictures import make_grid, to_pictures
from machinery.run import Run
from my_dataset import CELEBA_DIR

Direction = Annotated[str, one_of({name: name for name in ("sketch", "AtoB", "BtoA")})]


@dataclass
class Config(TrainConfig):
    """Learn to make one picture of another. With --input and --out-dir: of yours (--input x --help tells
    more). Every constant can be edited in applications/pix2pix.py or given as a flag."""

    data_dir: Free[Place] = CELEBA_DIR  # folder or .zip of images
    direction: Direction = "sketch"  # sketch: from one, drawn of each image; AtoB, BtoA: pairs A|B
    num_epochs: Free[Count] = 12  # times through all the images but the tenth that is kept apart
    batch_size: Count = 16  # images in one iteration (of each process, under torchrun)
    width: Count = 40  # channels of the net's first layer
    width_d: Count = 48  # and of the discriminators'
    lr: Rate = 0.0004  # learning rate of Adam; of all nets but D it falls to 0 in the last quarter
    l1: Weight = 30  # weight of the absolute error, beside 1 for each adversarial loss
    dropout: Below1 = 0.5  # of the two lowest stages of the net's decoder
    ema_decay: Below1 = 0.999  # of the moving average of the net's weights, which is what is used
    out_dir: Free[Place] = "log_gan/pix2pix"  # each run gets a folder of its own in here


@dataclass
class Use(UseConfig):
    """Make of each picture another one: of a sketch a face, with the released weights."""

    photos: bool = False  # the inputs are photos: draw a sketch of each first


METRICS = {
    "loss_l1": "absolute error",
    "loss_adversarial": "adversarial loss",
    "loss_d": "Loss_D",
    "loss_l2_alone": "squared error of the net beside it",
    "d_real": "D(real)",
    "d_made": "D(made)",
}


DARK, COLOURED = 150, 16  # levels of 0 to 255: sketches have a higher mean, and channels less apart


def u_net(width, dropout=0):
    """Images (N, 3, 64, 64) -> (N, 3, 64, 64), both in [-1, 1].

    The paper's goes down to 1 x 1 and keeps its dropout in use, as the only noise that it has; here
    it is left out then, so that the same picture always gives the same.
    """
    return UNet(3, 3, [width, 2 * width, *[4 * width] * 3], nn.Identity(), dropout)


def pencil(images, strength=4):
    """Images (N, 3, H, W) in [-1, 1] drawn with a pencil: dark where they are darker than around.

    strength: how hard it is pressed on. (Photographers know it as color dodge.)
    """
    weights = images.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    gray = (images * weights).sum(1, keepdim=True) / 2 + 0.6  # from 0.1 on: it is divided by
    line = torch.exp(-(torch.arange(-6.0, 7, device=images.device) ** 2) / 8)
    kernel = torch.outer(line, line)[None, None] / line.sum() ** 2
    around = F.conv2d(F.pad(gray, (6, 6, 6, 6), mode="reflect"), kernel)
    return ((gray / around).clamp(max=1) ** strength).expand_as(images) * 2 - 1


def to_pair(images, direction, strength=4):
    """Of a batch the pictures that go in and those that should come out, both (N, 3, H, W)."""
    if direction == "sketch":
        return pencil(images, strength), images
    first, second = images.split(3, dim=1)
    return (first, second) if direction == "AtoB" else (second, first)


def judge(discriminators, given, images):
    """Whether images (N, 3, 64, 64) belong to what was given: logits of each patch, (N, 1, 14, 14), and
    of the whole, seen at a quarter of the sides, (N, 1, 2, 2). The paper has patches alone; they do
    not see whether a face as a whole is as light and as colourful as it should be."""
    patches, whole = discriminators
    pair = torch.cat([given, images], dim=1)
    return patches(pair).float(), whole(F.avg_pool2d(pair, 4)).float()


def mean_loss(logits, sign):
    """Of both judgements: sign 1 asks for low logits, -1 for high ones."""
    return sum(F.softplus(sign * each).mean() for each in logits)


def train_step(given, real, net, discriminators, alone, optimizers, config):
    """One iteration: a step of D on pairs, one of the net by D and L1, one of alone by L2 only.

    given, real: (N, 3, 64, 64) in [-1, 1]; optimizers: of the three nets, in their order. Returns
    the METRICS, on the device.
    """
    half = autocast(real.device, config.bf16)
    with half:
        made = net(given)
    made = made.to(real.dtype)

    # (1) D: does the second picture belong to the first, in each patch and as a whole?
    with half:
        logits_real = judge(discriminators, given, real)
        logits_made = judge(discriminators, given, made.detach())
    loss_d = (mean_loss(logits_real, -1) + mean_loss(logits_made, 1)) / 2
    step(loss_d, discriminators, optimizers[1])

    # (2) The net: L1 gives the shapes and colours, D the sharpness and the light
    with half:
        adversarial = mean_loss(judge(discriminators, given, made), -1)
    l1 = F.l1_loss(made, real)
    step(adversarial + config.l1 * l1, net, optimizers[0])

    # (3) What the figures are compared with: the same net without D
    with half:
        made = alone(given)
    l2 = F.mse_loss(made.to(real.dtype), real)
    step(l2, alone, optimizers[2])
    judged = [patches.sigmoid().mean() for patches, _ in (logits_real, logits_made)]
    return torch.stack([l1, adversarial, loss_d, l2, *judged]).detach()


def train(config: Config) -> Path:
    """Train as config says, or go on with the run folder config.resume. Returns the run's folder.

    Raises RunError, with a sentence for the user, for bad input and for what stops a Run.
    """
    device = checked_device(config)
    nc = 3 if config.direction == "sketch" else 6  # of a pair: both at once
    data, kept_apart, config = open_images(config, device, nc=nc)
    given, truth = to_pair(to_images(torch.tensor(kept_apart)).to(device), config.direction)

    set_seed(config.seed)
    net, alone = u_net(config.width, config.dropout), u_net(config.width)
    discriminators = nn.ModuleList(
        patch_discriminator(6, config.width_d, nn.BatchNorm2d) for _ in ("patches", "whole")
    )
    nets = net, discriminators, alone
    for each in nets:
        initialize_weights(each)
        each.to(device, memory_format=torch.channels_last)
    optimizers = [fused_adam(each, config.lr, beta1=0.5) for each in nets]
    averages = {each: WeightAverage(each, config.ema_decay) for each in (net, alone)}
    averaged, averaged_alone = (average.net for average in averages.values())
    parts = dict(zip(["g_model", "d_model", "l2_model"], nets))
    parts |= {"g_ema_model": averaged, "l2_ema_model": averaged_alone}
    parts |= dict(zip(["g_optimizer", "d_optimizer", "l2_optimizer"], optimizers))
    first = to_images(torch.tensor(data.images[:512])).to(device)
    first, real = to_pair(first, config.direction)  # for BatchNorm's statistics, and a picture

    with Run(config, parts, METRICS, data) as run:
        run.save_picture("real.png", lambda: make_grid(torch.cat([first[:8], real[:8]]), 8))
        for epoch in run.epochs():
            for batch in run.batches():
                left = 1 - (epoch + run.seen / data.count) / config.num_epochs
                for each in optimizers[::2]:  # D's stays
                    each.param_groups[0]["lr"].fill_(config.lr * min(1, 4 * left))
                for average in averages.values():
                    average.set_share(run.step)
                strength = float(torch.empty(()).uniform_(2, 8))  # pencils differ
                pair = to_pair(batch, config.direction, strength)
                run.count(train_step(*pair, *nets, optimizers, config))
                for each, average in averages.items():
                    average.update(each)
            for average in averages.values():
                average.count_statistics(first.split(64))
            run.end_epoch(lambda: triples(averaged, given[:8], truth[:8]))
    made = {"L2 alone": apply(averaged_alone, given), "Pix2Pix": apply(averaged, given)}
    save_figures(run.folder, figures(made, truth), len(truth))
    return run.folder


def triples(net, given, truth):
    """The picture of an epoch: what goes in, what comes out, and the truth."""
    return make_grid(torch.cat([given, apply(net, given), truth]), len(truth))


def figures(made, truth):
    """L1, in levels of 0 to 255, and SWD of each level, of {name: images}; all (N, 3, 64, 64)."""
    wanted, rows = as_pixels(truth), {}
    for name, images in made.items():
        pixels = as_pixels(images)
        distances = swd(descriptors(pixels), descriptors(wanted))
        rows[name] = {"L1": float(np.abs(pixels.astype(float) - wanted).mean())}
        rows[name] |= {f"SWD {side}": distance for side, distance in distances.items()}
        rows[name]["SWD"] = float(np.mean([*distances.values()]))
    return rows


# --- using it


def use(config: Use) -> list[Path]:
    """Make another picture of each that config names; returns the paths of what was written.

    Raises RunError, with a sentence for the user, for bad input.
    """
    net, photos = open_net(config, "pix2pix", build), []

    def change(picture):
        given, made = change_picture(net, picture, config.photos)
        apart = np.ptp(given, axis=2).mean()
        photos.append(np.mean(given) < DARK or apart > COLOURED)
        return given, made

    written = use_on_pictures(config, change)
    if np.mean(photos) > 0.5:
        print(
            "Most of these pictures look like photos; weights that learnt from sketches need dark "
            "lines on light paper, or --photos, which draws a sketch of each first."
        )
    return written


def build(weights):
    """The net of a state dict."""
    return u_net(weights["encoder.0.0.weight"].shape[0])


def change_picture(net, picture, photo=False):
    """Of a PIL image (RGB) the middle square at 64 x 64, or its sketch if it is a photo; and what
    the net makes of that."""
    given = middle_square(picture, net.last.weight.device)
    given = pencil(given) if photo else given
    return tuple(to_pictures(torch.cat([given, apply(net, given)])))


def main():
    train_or_use(train, Config, use, Use)


if __name__ == "__main__":
    run_as_script(main)
