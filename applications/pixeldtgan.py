"""Clothes out of a picture of a person: PixelDTGAN (Yoo et al. 2016, arXiv:1603.07442).

python -m applications.pixeldtgan                      # train; draws people and clothes on first use
python -m applications.pixeldtgan --data-dir lookbook  # your pairs, person|garment side by side
python -m applications.pixeldtgan --resume latest      # go on with an interrupted run
python -m applications.pixeldtgan --input person.png --out-dir shop
python -m applications.pixeldtgan --help               # every constant below is also a flag
"""

import signal
import sys

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not __spec__:  # started as a file, not by -m
        sys.path.append(f"{sys.path[0]}/..")

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from applications.common import (
    SIDE,
    TrainConfig,
    UseConfig,
    apply,
    as_pixels,
    change_picture,
    checked_device,
    open_images,
    open_net,
    save_figures,
    step,
    train_or_use,
    use_on_pictures,
)
from applications.nets import encoder
from common_tools import run_as_script, set_seed
from dcgan import Discriminator, Generator, initialize_weights
from machinery.acceleration import autocast, fused_adam
from machinery.batches import to_images
from machinery.constants import Below1, Count, Free, Place, Range, Rate, Weight
from machinery.diffaugment import augment
from machinery.ema import WeightAverage
from machinery.figures import descriptors, swd
from machinery.pictures import make_grid
from machinery.run import Run
from my_dataset import DRAWN_CLOTHES

Pairs = Annotated[int, Range("2 or more", lambda count: count >= 2)]  # one's, and another's


@dataclass
class Config(TrainConfig):
    """Learn to show a person's clothes alone. With --input and --out-dir: those of yours (--input x
    --help tells more). Every constant can be edited in applications/pixeldtgan.py or given as a flag."""

    data_dir: Free[Place] = DRAWN_CLOTHES  # folder or .zip of pairs person|garment, side by side
    num_epochs: Free[Count] = 60  # times through all the pairs but the tenth that is kept apart
    batch_size: Pairs = 32  # pairs in one iteration (of each process, under torchrun)
    nz: Count = 64  # numbers in the bottleneck, through which all must go
    width: Count = 20  # channels of the encoder's first layer
    ngf: Count = 20  # width of the decoder
    ndf: Count = 16  # width of the two discriminators
    lr: Rate = 0.001  # learning rate of the converter's Adam
    lr_d: Rate = 0.0004  # and of the discriminators'
    l1: Weight = 50  # weight of the absolute error, beside 1 for what the discriminators say
    ema_decay: Below1 = 0.999  # of the moving average of the net's weights, which is what is used
    out_dir: Free[Place] = "log_gan/pixeldtgan"  # each run gets a folder of its own in here


@dataclass
class Use(UseConfig):
    """Show the clothes of each person alone: of the middle square of each picture."""


METRICS = {
    "loss_l1": "absolute error",
    "loss_real": "taken for real",
    "loss_pair": "taken for the person's",
    "loss_d": "Loss_D",
    "d_real": "D(real)",
    "d_made": "D(made)",
    "d_pair": "D(person, own)",
    "d_other": "D(person, another's)",
}
AMONG = 200  # garments, of which the one drawn is to be nearest to the right one


def converter(nz, width, ngf):
    """Images (N, 3, 64, 64) -> (N, 3, 64, 64), both in [-1, 1], by way of nz numbers.

    Without skips, unlike a U-Net: nothing in the one picture lies where it will be in the other.
    """
    widths = [width, 2 * width, 4 * width, 8 * width]
    return nn.Sequential(encoder(widths, nz), nn.Unflatten(1, (nz, 1, 1)), Generator(nz, ngf))


def train_step(given, real, net, discriminators, optimizer, optimizer_d, config):
    """One iteration: a step of both D, and one of the net by them and L1.

    given, real: people and their garments, (N, 3, 64, 64) in [-1, 1]. Returns the METRICS, on the
    device.
    """
    half = autocast(real.device, config.bf16)

    def judge(name, *images):
        with half:  # shifted, so that no D learns the pairs by heart
            shifted = augment(torch.cat(images, 1), "shift")
            return discriminators[name](shifted, logits=True).float()

    with half:
        made = net(given)
    made = made.to(real.dtype)

    # (1) Is it a garment? And is it this person's: not another's, nor one that was made?
    logits_real, logits_made = judge("real", real), judge("real", made.detach())
    logits_pair, logits_other = judge("pair", given, real), judge("pair", given, real.roll(1, 0))
    wrong = F.softplus(logits_other) + F.softplus(judge("pair", given, made.detach()))
    loss_d = F.softplus(-logits_real).mean() + F.softplus(logits_made).mean()
    loss_d = loss_d + F.softplus(-logits_pair).mean() + wrong.mean() / 2
    step(loss_d, discriminators, optimizer_d)

    # (2) The net. The paper's has these two alone; L1 brings it there in minutes
    as_real = F.softplus(-judge("real", made)).mean()
    as_own = F.softplus(-judge("pair", given, made)).mean()
    l1 = F.l1_loss(made, real)
    step((as_real + as_own) / 2 + config.l1 * l1, net, optimizer)
    judged = [
        each.sigmoid().mean() for each in (logits_real, logits_made, logits_pair, logits_other)
    ]
    return torch.stack([l1, as_real, as_own, loss_d, *judged]).detach()


def train(config: Config) -> Path:
    """Train as config says, or go on with the run folder config.resume. Returns the run's folder.

    Raises RunError, with a sentence for the user, for bad input and for what stops a Run.
    """
    device = checked_device(config)
    data, kept_apart, config = open_images(config, device, nc=6)
    given, truth = to_images(torch.tensor(kept_apart)).to(device).split(3, 1)

    set_seed(config.seed)
    net = converter(config.nz, config.width, config.ngf)
    discriminators = {"real": Discriminator(3, config.ndf), "pair": Discriminator(6, config.ndf)}
    discriminators = nn.ModuleDict(discriminators)
    for each in (net, discriminators):
        initialize_weights(each)
        each.to(device, memory_format=torch.channels_last)
    optimizer = fused_adam(net, config.lr, beta1=0.5)
    optimizer_d = fused_adam(discriminators, config.lr_d, beta1=0.5)
    average = WeightAverage(net, config.ema_decay)
    parts = {"g_model": net, "d_model": discriminators, "g_ema_model": average.net}
    parts |= {"g_optimizer": optimizer, "d_optimizer": optimizer_d}
    nets = net, discriminators, optimizer, optimizer_d
    first, real = to_images(torch.tensor(data.images[:512])).to(device).split(3, 1)

    with Run(config, parts, METRICS, data) as run:
        run.save_picture("real.png", lambda: make_grid(torch.cat([first[:8], real[:8]]), 8))
        for epoch in run.epochs():
            left = min(1, 2 - 2 * epoch / config.num_epochs)  # in the second half the rates fall
            optimizer.param_groups[0]["lr"].fill_(config.lr * left)
            optimizer_d.param_groups[0]["lr"].fill_(config.lr_d * left)
            for batch in run.batches():
                average.set_share(run.step)
                run.count(train_step(*batch.split(3, 1), *nets, config))
                average.update(net)
            average.count_statistics(first.split(64))
            run.end_epoch(lambda: triples(average.net, given[:8], truth[:8]))
    made = {
        "mean colour of the picture": given.mean((2, 3), keepdim=True).expand_as(truth),
        "that of the most similar picture": most_similar(kept_apart, data.images).to(device),
        "PixelDTGAN": apply(average.net, given),
    }
    save_figures(run.folder, figures(made, truth), len(truth))
    return run.folder


def triples(net, given, truth):
    """The picture of an epoch: people, the clothes that are made of them, and the truth."""
    return make_grid(torch.cat([given, apply(net, given), truth]), len(truth))


def most_similar(pairs, learnt):
    """What a look-up would give: of each pair (n, 64, 64, 6) the garment of the learnt pair whose person
    is most similar, as images in [-1, 1]. Both uint8."""
    people, others = (
        F.avg_pool2d(to_images(torch.tensor(each[..., :3])).cpu(), 4).flatten(1)
        for each in (pairs, learnt)
    )
    garments = torch.tensor(learnt[..., 3:]).cpu()
    return to_images(garments[torch.cdist(people, others).argmin(1)])


def figures(made, truth):
    """Of {name: images}, all (N, 3, 64, 64): how often, in percent, an image is nearest to its own of
    the first AMONG garments, the error of the main colour, in levels of 0 to 255, and SWD.

    Near is what differs little at a quarter of the sides, where colour, cut and pattern are left.
    The main colour is the median over what differs from the corner of the true picture.
    """
    rows, wanted = {}, as_pixels(truth)
    garments = (np.abs(wanted - wanted[:, :1, :1].astype(int)) > 4).any(3)
    for name, images in made.items():
        small, small_truth = (F.avg_pool2d(each[:AMONG], 4).flatten(1) for each in (images, truth))
        nearest = torch.cdist(small, small_truth).argmin(1).cpu()
        pixels = as_pixels(images)
        errors = [
            np.abs(np.median(one[where], 0) - np.median(other[where], 0)).mean()
            for one, other, where in zip(pixels, wanted, garments)
            if where.any()
        ]
        distances = swd(descriptors(pixels), descriptors(wanted))
        rows[name] = {
            "first": 100 * float((nearest == torch.arange(len(nearest))).double().mean()),
            "colour": float(np.mean(errors)),
            "SWD": float(np.mean([*distances.values()])),
            f"SWD {SIDE}": distances[SIDE],
        }
    return rows


# --- using it


def use(config: Use) -> list[Path]:
    """Show the clothes of each picture that config names; returns the paths of what was written.

    Raises RunError, with a sentence for the user, for bad input.
    """
    net = open_net(config, "pixeldtgan", build)
    return use_on_pictures(config, partial(change_picture, net))


def build(weights):
    """The net of a state dict."""
    decoder = weights["2.main.0.weight"], weights["2.main.12.weight"]
    return converter(decoder[0].shape[0], weights["0.0.weight"].shape[0], decoder[1].shape[0])


def main():
    train_or_use(train, Config, use, Use)


if __name__ == "__main__":
    run_as_script(main)
