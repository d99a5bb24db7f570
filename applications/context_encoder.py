"""Fill in a missing part of a picture: Context Encoder (Pathak et al. 2016, arXiv:1604.07379).

python -m applications.context_encoder                         # train; CelebA if it is there
python -m applications.context_encoder --data-dir my_faces.zip
python -m applications.context_encoder --resume latest         # go on with an interrupted run
python -m applications.context_encoder --input photo.jpg --out-dir filled
python -m applications.context_encoder --input photo.jpg --out-dir filled2 --mask hole.png
python -m applications.context_encoder --help                  # every constant below is also a flag
"""

import signal
import sys

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not __spec__:  # started as a file, not by -m
        sys.path.append(f"{sys.path[0]}/..")

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from applications.common import (
    SIDE,
    TrainConfig,
    UseConfig,
    apply,
    as_pixels,
    checked_device,
    open_images,
    open_net,
    open_pictures,
    save_figures,
    step,
    train_or_use,
    use_on_pictures,
)
from applications.nets import UNet
from common_tools import RunError, run_as_script, set_seed
from dcgan import Discriminator, initialize_weights
from machinery.acceleration import autocast, fused_adam
from machinery.batches import to_images
from machinery.constants import Below1, Count, Free, Place, Rate, Share, Weight
from machinery.ema import WeightAverage
from machinery.figures import psnr
from machinery.pictures import make_grid
from machinery.run import Run
from my_dataset import CELEBA_DIR


@dataclass
class Config(TrainConfig):
    """Learn to fill in missing parts of pictures. With --input and --out-dir: fill in those of yours
    (--input x --help tells more). Every constant can be edited in applications/context_encoder.py."""

    data_dir: Free[Place] = CELEBA_DIR  # folder or .zip of images
    num_epochs: Free[Count] = 30  # times through all the images but the tenth that is kept apart
    width: Count = 48  # channels of the first layer
    lr: Rate = 0.0005  # learning rate of the net's Adam
    lr_d: Rate = 0.0002  # and of the discriminator's
    adversarial: Weight = 0.001  # weight of the adversarial loss, beside 1 for L2
    overlap: Weight = 0.5  # weight of L2 in a rim of 4 pixels around the hole, beside 1 in it
    random_blocks: Share = 0.2  # of the batches that have blocks cut out anywhere, not the middle
    ema_decay: Below1 = 0.999  # of the moving average of the net's weights, which is what is used
    out_dir: Free[Place] = "log_gan/context_encoder"  # each run gets a folder of its own in here


@dataclass
class Use(UseConfig):
    """Fill in missing parts of pictures: the middle, cut out here, or what a mask says."""

    mask: str = ""  # a picture as large as the photo (or stretched to it), white where to fill in, else black


METRICS = {
    "loss_l2": "L2",
    "loss_adversarial": "adversarial loss",
    "loss_d": "Loss_D",
    "d_real": "D(real)",
    "d_filled": "D(filled)",
}
HOLE = slice(SIDE // 4, -SIDE // 4)  # rows and columns of the middle half


class Mixing(nn.Module):
    """The paper's bottleneck, a channel-wise fully connected layer, for features of 4 x 4: mixes each
    channel over all places, by which the middle comes to know of the rim, then channels in each place.
    """

    def __init__(self, channels):
        super().__init__()
        self.places = nn.Parameter(torch.empty(channels, 16, 16))
        self.channels = nn.Conv2d(channels, channels, 1)
        nn.init.normal_(self.places, 0, 0.25)

    def forward(self, features):
        mixed = torch.einsum("ncs,cst->nct", features.flatten(2), self.places.to(features.dtype))
        return F.relu(self.channels(mixed.view_as(features)))


def context_encoder(width):
    """Images with a hole and the hole, 4 channels of (N, 4, 64, 64) -> (N, 3, 64, 64) in [-1, 1].

    The paper's encoder is AlexNet, is not told where the hole is, and has no skips to the decoder;
    with them, what is filled in goes on from the surroundings sooner in the training.
    """
    widths = [width, 2 * width, 4 * width, 4 * width]
    return UNet(4, 3, widths, Mixing(widths[-1]))


def cut_out(images, hole):
    """What the net sees of images (N, 3, 64, 64): nothing (0) in the hole, and where that is."""
    return torch.cat([images * (1 - hole), hole.expand(len(images), -1, -1, -1)], dim=1)


def middle(device):
    """The hole that is the middle half, (1, 1, 64, 64): 1 in it, else 0."""
    hole = torch.zeros(1, 1, SIDE, SIDE, device=device)
    hole[..., HOLE, HOLE] = 1
    return hole


def random_blocks(count, device):
    """Holes (count, 1, 64, 64) of four blocks each, 8 to 24 pixels a side, a fifth of all pixels."""
    sides = torch.randint(8, 25, (count, 4, 2, 1))
    first = (torch.rand(count, 4, 2, 1) * (SIDE + 1 - sides)).long()
    line = torch.arange(SIDE)
    rows, columns = ((line >= first) & (line < first + sides)).unbind(2)
    return (rows[..., None] & columns[..., None, :]).any(1, keepdim=True).float().to(device)


def train_step(real, hole, window, net, discriminator, optimizer, optimizer_d, config):
    """One iteration: fill in, a step of D, then one of the net by L2 + adversarial * log-loss of D.

    real: (N, 3, 64, 64) in [-1, 1]; hole: (N or 1, 1, 64, 64); window: (rows, columns), two slices
    of half a side, which D sees. Returns the METRICS, on the device.
    """
    half = autocast(real.device, config.bf16)
    with half:
        filled = net(cut_out(real, hole))
    filled = filled.to(real.dtype)

    # (1) D: real or filled in? It sees no surroundings of the middle: it would look at the seam only
    shown = torch.lerp(real, filled, hole)[..., window[0], window[1]]
    with half:
        logits_real = discriminator(real[..., window[0], window[1]], logits=True)
        logits_filled = discriminator(shown.detach(), logits=True)
    loss_d = F.softplus(-logits_real.float()).mean() + F.softplus(logits_filled.float()).mean()
    step(loss_d, discriminator, optimizer_d)

    # (2) The net: L2 gives the shape, D the sharpness. L2 also counts in a rim around the hole,
    # which the net can see: so what it fills in goes on from there without a seam
    with half:
        logits = discriminator(shown, logits=True)
    adversarial = F.softplus(-logits.float()).mean()
    rim = F.max_pool2d(hole, 9, stride=1, padding=4) - hole
    weight = (hole + config.overlap * rim).expand_as(real)
    l2 = ((filled - real).square() * weight).sum() / weight.sum()
    step(l2 + config.adversarial * adversarial, net, optimizer)
    judged = logits_real.float().sigmoid().mean(), logits_filled.float().sigmoid().mean()
    return torch.stack([l2, adversarial, loss_d, *judged]).detach()


def train(config: Config) -> Path:
    """Train as config says, or go on with the run folder config.resume. Returns the run's folder.

    Raises RunError, with a sentence for the user, for bad input and for what stops a Run.
    """
    device = checked_device(config)
    data, kept_apart, config = open_images(config, device)
    truth = to_images(torch.tensor(kept_apart)).to(device)

    set_seed(config.seed)
    net, discriminator = context_encoder(config.width), Discriminator(3, config.width, SIDE // 2)
    initialize_weights(discriminator)
    for each in (net, discriminator):
        each.to(device, memory_format=torch.channels_last)
    optimizer = fused_adam(net, config.lr, beta1=0.5)
    optimizer_d = fused_adam(discriminator, config.lr_d, beta1=0.5)
    average = WeightAverage(net, config.ema_decay)
    parts = {"g_model": net, "d_model": discriminator, "g_ema_model": average.net}
    parts |= {"g_optimizer": optimizer, "d_optimizer": optimizer_d}

    hole = middle(device)
    first = to_images(torch.tensor(data.images[:512])).to(device)  # for BatchNorm's statistics

    with Run(config, parts, METRICS, data) as run:
        run.save_picture("real.png", lambda: make_grid(first[:64]))
        for _ in run.epochs():
            for real in run.batches():
                where = hole, (HOLE, HOLE)
                if torch.rand(()) < config.random_blocks:
                    window = (slice(start, start + SIDE // 2) for start in torch.randint(33, [2]))
                    where = random_blocks(len(real), device), tuple(window)
                average.set_share(run.step)
                run.count(
                    train_step(real, *where, net, discriminator, optimizer, optimizer_d, config)
                )
                average.update(net)
            average.count_statistics(cut_out(first, hole).split(64))
            run.end_epoch(lambda: triples(average.net, truth[:8]))
    filled = fill_in(average.net, truth, hole)
    save_figures(run.folder, figures(filled, kept_apart, data.images), len(truth))
    return run.folder


def fill_in(net, images, hole):
    """Images (N, 3, 64, 64) with the hole (N or 1, 1, 64, 64) filled in, and all else as it was."""
    return torch.where(hole > 0, apply(net, cut_out(images, hole)), images)


def triples(net, truth):
    """The picture of an epoch: images with the middle cut out, filled in, and as they were."""
    hole = middle(truth.device)
    return make_grid(torch.cat([truth * (1 - hole), fill_in(net, truth, hole), truth]), len(truth))


def figures(filled, truth, learnt):
    """PSNR in the hole, of what is filled in and of two baselines.

    filled: (N, 3, 64, 64) in [-1, 1]; truth and learnt, the images of training: uint8 (N, 64, 64, 3).
    """
    around = np.ones((SIDE, SIDE), dtype=bool)
    around[HOLE, HOLE] = False
    rows = {
        "mean colour of the surroundings": truth[:, around].mean(1)[:, None, None],
        "mean image of the training": learnt.mean(0)[None, HOLE, HOLE],
        "Context Encoder": as_pixels(filled)[:, HOLE, HOLE],
    }
    wanted = truth[:, HOLE, HOLE]
    return {
        name: {"PSNR": psnr(np.broadcast_to(each, wanted.shape), wanted)}
        for name, each in rows.items()
    }


# --- using it


def use(config: Use) -> list[Path]:
    """Fill in the hole of each picture that config names; returns the paths of what was written.

    Raises RunError, with a sentence for the user, for bad input.
    """
    net = open_net(config, "context_encoder", build)
    mask = open_mask(config.mask) if config.mask else None
    return use_on_pictures(config, lambda picture: fill_in_picture(net, picture, mask))


def build(weights):
    """The net of a state dict."""
    return context_encoder(weights["encoder.0.0.weight"].shape[0])


def open_mask(path):
    """The mask, a PIL image of 0 and 255. Raises RunError where it is no picture, or of one colour."""
    if not Path(path).is_file():
        raise RunError(f"mask {path} is no file; name one picture.")
    mask = open_pictures(path, "mask", nc=1)
    mask = mask.load_image(mask.names[0]).point(lambda value: 255 * (value > 127))
    if not mask.getbbox():
        raise RunError(
            f"mask {path} has no white in it (what is darker than half counts as black); paint white what "
            "is to be filled in."
        )
    if mask.getextrema()[0]:
        raise RunError(
            f"mask {path} is white everywhere, as what is transparent is, too; paint black what is to stay."
        )
    return mask


def fill_in_picture(net, picture, mask=None):
    """A PIL image (RGB) of any size with its hole in gray, and with it filled in.

    mask: a PIL image, stretched to the picture's size; else the hole is the middle half of the
    middle square. The net sees a square of the picture at 64 x 64: the middle one, or as near to it
    as has all of the hole in it. What it makes is enlarged again, and shows in the hole alone.
    Raises RunError where no square has all of the hole in it.
    """
    side = min(picture.size)
    corner = [(length - side) // 2 for length in picture.size]
    if mask is None:
        hole = Image.new("L", picture.size)
        hole.paste(255, [start + side * part // 4 for part in (1, 3) for start in corner])
    else:
        white = mask.convert("F").resize(picture.size, Image.Resampling.BOX)
        hole = Image.fromarray(np.uint8(255 * (np.asarray(white) > 0)))  # thin lines stay, too
    if not (found := hole.getbbox()):
        raise RunError("it has fewer than 2 pixels a side; use a larger one.")
    corner = [min(max(corner[k], found[k + 2] - side), found[k]) for k in (0, 1)]
    box = (*corner, corner[0] + side, corner[1] + side)
    if box[2] < found[2] or box[3] < found[3]:
        raise RunError("no square of it has all of the hole in it; use a smaller mask.")

    # A pixel of the small picture that has anything of the hole in it belongs to the hole
    small, holed = (
        each.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box) for each in (picture, hole)
    )
    device = net.last.weight.device
    images = to_images(torch.tensor(np.asarray(small))[None]).to(device)
    holed = torch.tensor(np.asarray(holed) > 0)[None, None].float().to(device)
    filled = as_pixels(fill_in(net, images, holed))[0]
    large = Image.fromarray(filled).resize((side, side), Image.Resampling.BICUBIC)
    cut, made = picture.copy(), picture.copy()
    cut.paste((128, 128, 128), mask=hole)
    made.paste(large, corner, hole.crop(box))
    return cut, made


def main():
    train_or_use(train, Config, use, Use)


if __name__ == "__main__":
    run_as_script(main)
