"""Large faces, learnt from small ones: Progressive GAN (Karras et al. 2018, arXiv:1710.10196).

python -m applications.progan                        # train; CelebA if it is there, else drawn faces
python -m applications.progan --data-dir my_images.zip --image-size 256 --num-epochs 16
python -m applications.progan --resume latest        # go on with an interrupted run
python -m applications.progan --against log_gan/run1 # compare with a run of gan_demo.py, too
python -m applications.progan --input noise --out-dir faces --walk 7 --interpolate
python -m applications.progan --help                 # every constant below is also a flag
"""

import signal
import sys

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not __spec__:  # started as a file, not by -m
        sys.path.append(f"{sys.path[0]}/..")

from contextlib import suppress
from dataclasses import dataclass
from itertools import count, pairwise
from math import ceil, log2
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from applications.common import (
    TrainConfig,
    UseConfig,
    as_pixels,
    checked_device,
    new_folder,
    open_images,
    open_net,
    save_figures,
    step,
    train_or_use,
)
from applications.nets import four_by_four
from common_tools import RunError, run_as_script, set_seed
from gan_inference import draw, save_pictures
from machinery.acceleration import autocast, fused_adam
from machinery.batches import to_images
from machinery.constants import (
    Below1,
    Count,
    Free,
    Place,
    Range,
    Rate,
    Seed,
    Weight,
    one_of,
)
from machinery.ema import WeightAverage
from machinery.figures import contrast, descriptors, swd
from machinery.pictures import make_grid, save_picture
from machinery.processes import get_rank
from machinery.run import Run
from my_dataset import CELEBA_DIR
from sampling import draw_noise, find_checkpoint, generate, load_generator

SIDES = [4 * 2**level for level in range(9)]
ImageSize = Annotated[int, one_of({side: str(side) for side in SIDES[2:]})]


@dataclass
class Config(TrainConfig):
    """Learn to draw large faces. With --input noise and --out-dir: draw some (--input noise --help
    tells more). Every constant can be edited in applications/progan.py or given as a flag."""

    data_dir: Free[Place] = CELEBA_DIR  # folder or .zip of images
    image_size: ImageSize = 128  # pixels a side in the end: 16, 32, 64, 128, 256, 512 or 1024
    fade_epochs: Count = 1  # times through the images while the next level is faded in
    hold_epochs: Count = 1  # and while each then learns alone
    num_epochs: Free[Count] = 13  # times through all the images but the tenth that is kept apart
    batch_size: Count = 16  # images in one iteration (of each process, under torchrun)
    nz: Count = 128  # length of the noise
    width: Count = 96  # maps of both nets up to 16 x 16; half as many at each level after that
    lr: Rate = 0.002  # learning rate of both nets' Adam
    penalty: Weight = 10.0  # weight of the gradient penalty
    drift: Weight = 0.001  # weight of the square of what the critic says of real images
    ema_decay: Below1 = 0.98  # of the moving average of the net's weights, which is what is used
    against: Free[str] = ""  # run or file of gan_demo.py, for one more row in the figures
    out_dir: Free[Place] = "log_gan/progan"  # each run gets a folder of its own in here


@dataclass
class Use(UseConfig):
    """Draw faces."""

    input: Annotated[str, Range("noise", "noise".__eq__)]  # noise: what faces are drawn from
    out_dir: Place  # a new folder for the pictures
    seed: Seed = 1  # same seed, same faces
    num_img: Count = 64  # how many faces to draw
    walk: int | None = None  # z_idx, 0 to nz - 1: one face, this latent dimension from -3 to 3
    interpolate: bool = False  # a smooth loop through the first 8 faces


METRICS = {
    "loss_d": "D(made) - D(real), penalties",
    "loss_g": "-D(made)",
    "loss_slope": "gradient penalty",
    "share": "share of the newest level",
}


# --- nets that grow
#
# How far they have grown is one number: 0 is 4 x 4 pixels, 1 is 8 x 8, and 1.3 is 8 x 8 with the level
# of 16 x 16 faded in by 0.3.


def levels(growth):
    """The newest level, and its share: 1.3 -> (2, 0.3), 2.0 -> (2, 1.0), 0.0 -> (0, 1.0)."""
    level = max(0, ceil(growth))
    return level, growth - level + 1


def grown(epoch, config):
    """How far the nets have grown after so many epochs, a fraction included, and for how many of them
    the newest level has been learning: it is faded in, and then held."""
    fade, both = config.fade_epochs, config.fade_epochs + config.hold_epochs
    level = min((epoch + fade) // both, log2(config.image_size) - 2)  # the first needs no fading in
    since = epoch + fade - level * both
    return level - 1 + min(1, since / fade), since


class Conv(nn.Conv2d):
    """A convolution whose weights are scaled when they are used, not when they are drawn, so that
    Adam's steps are as large for all layers (the paper's equalised learning rate).

    resize: "up" doubles the sides before it, "down" halves them after it; both are part of the same
    convolution, of 4 x 4, which gives the same numbers for less than half of the work.
    """

    def __init__(self, width_in, width, size=3, padding=1, gain=2, resize=""):
        super().__init__(width_in, width, size, padding=padding)
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)
        self.scale, self.resize = (gain / self.weight[0].numel()) ** 0.5, resize

    def forward(self, features):
        weight = self.weight * self.scale
        if not self.resize:
            return F.conv2d(features, weight, self.bias, padding=self.padding)
        weight = four_by_four(weight)
        if self.resize == "down":
            return F.conv2d(features, weight / 4, self.bias, stride=2, padding=1)
        weight = weight.transpose(0, 1).flip(2, 3)
        return F.conv_transpose2d(features, weight, self.bias, stride=2, padding=1)


class PixelNorm(nn.Module):
    """Features (N, C, H, W), at each pixel scaled to a mean square of 1 over the C of them."""

    def forward(self, features):
        return features * (features.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def widths_of(width, image_size):
    """Maps of each level from 4 x 4 on: `width` up to 16 x 16, then half as many each time, down to 16
    as in the paper, which begins with 512."""
    sides = [side for side in SIDES if side <= image_size]
    return [min(width, max(16, width * 16 // max(16, side))) for side in sides]


class Generator(nn.Module):
    """Noise (N, nz, 1, 1) -> images (N, 3, H, H) of the side to which it has grown, about [-1, 1]."""

    def __init__(self, nz, widths):
        super().__init__()
        act = nn.LeakyReLU(0.2), PixelNorm()
        first = PixelNorm(), Conv(nz, widths[0], 4, padding=3), *act
        self.levels = nn.ModuleList([nn.Sequential(*first, Conv(widths[0], widths[0]), *act)])
        for wide, width in pairwise(widths):
            layers = Conv(wide, width, resize="up"), *act, Conv(width, width), *act
            self.levels.append(nn.Sequential(*layers))
        self.to_rgb = nn.ModuleList(Conv(width, 3, 1, padding=0, gain=1) for width in widths)
        self.register_buffer("growth", torch.tensor(len(widths) - 1.0))  # kept with the weights

    def forward(self, noise):
        level, share = levels(float(self.growth))
        features = noise
        for layers in self.levels[: level + 1]:
            before, features = features, layers(features)
        images = self.to_rgb[level](features)
        if share < 1:
            images = torch.lerp(enlarged(self.to_rgb[level - 1](before)), images, share)
        if level == len(self.levels) - 1 and not self.training:
            # The critic hardly sees the finest colours, so they are noise: drawn at half the sides, as
            # in a JPEG
            gray = images.mean(1, keepdim=True)
            images = gray + enlarged(halved(images - gray))
        return images


class Critic(nn.Module):
    """Images (N, 3, H, H) and the growth -> how real they look, (N, 1, 1, 1), in float32."""

    def __init__(self, widths):
        super().__init__()
        act = nn.LeakyReLU(0.2)
        self.from_rgb = nn.ModuleList(nn.Sequential(Conv(3, width, 1, 0), act) for width in widths)
        last = Conv(widths[0] + 1, widths[0]), act, Conv(widths[0], widths[0], 4, padding=0), act
        self.levels = nn.ModuleList([nn.Sequential(*last)])
        for wide, width in pairwise(widths):
            layers = Conv(width, width), act, Conv(width, wide, resize="down"), act
            self.levels.append(nn.Sequential(*layers))
        self.judge = Conv(widths[0], 1, 1, padding=0, gain=1)

    def forward(self, images, growth):
        level, share = levels(growth)
        features = self.from_rgb[level](images)
        for below in range(level - 1, -1, -1):
            features = self.levels[below + 1](features)
            if share < 1 and below == level - 1:
                features = torch.lerp(self.from_rgb[below](halved(images)), features, share)
        # Made images that are all alike give themselves away (minibatch standard deviation)
        spread = (features.float().var(0, unbiased=False) + 1e-8).sqrt().mean().to(features.dtype)
        spread = spread.expand_as(features[:, :1])
        features = self.levels[0](torch.cat([features, spread], 1))
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 is too coarse for this
            return self.judge(features.to(self.judge.weight.dtype))


def halved(images):
    return F.avg_pool2d(images, 2)


def enlarged(images, factor=2):
    return F.interpolate(images, scale_factor=factor)


def as_grown(images, growth):
    """Real images (N, 3, H, H) of full size, as they are to look when the nets have grown so far."""
    level, share = levels(growth)
    images = F.avg_pool2d(images, images.shape[-1] // SIDES[level])
    return images if share == 1 else torch.lerp(enlarged(halved(images)), images, share)


# --- training


def train_step(real, net, critic, optimizers, config, growth):
    """One iteration: a step of the critic, and one of the net.

    real: (N, 3, image_size, image_size) in [-1, 1]; optimizers: of the net and the critic. Returns
    the METRICS, on the device.
    """
    half, device, count = autocast(real.device, config.bf16), real.device, len(real)
    optimizer, optimizer_d = optimizers
    real = as_grown(real, growth)
    noise = torch.randn(count, config.nz, 1, 1, device=device, dtype=real.dtype)
    with half:
        made = net(noise)
    made = made.to(real.dtype)

    # (1) The critic: real above made (Wasserstein GAN), with a slope of 1 on the way between them
    # (Gulrajani et al. 2017, arXiv:1704.00028), looked at for a quarter of the batch, to save time
    few = -(-count // 4)
    between = torch.rand(few, 1, 1, 1, device=device, dtype=real.dtype)
    between = torch.lerp(made[:few].detach(), real[:few], between).requires_grad_()
    with half:
        of_real, of_made = critic(real, growth), critic(made.detach(), growth)
        of_between = critic(between, growth).sum()
    (slope,) = torch.autograd.grad(of_between, between, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    loss_d = of_made.mean() - of_real.mean()
    loss_d = loss_d + config.penalty * penalty + config.drift * of_real.square().mean()
    step(loss_d, critic, optimizer_d)

    # (2) The net
    with half:
        loss_g = -critic(made, growth).mean()
    step(loss_g, net, optimizer)
    share = torch.tensor(levels(growth)[1], device=device)
    return torch.stack([loss_d, loss_g, penalty, share]).detach().float()


def train(config: Config) -> Path:
    """Train as config says, or go on with the run folder config.resume. Returns the run's folder.

    Raises RunError, with a sentence for the user, for bad input and for what stops a Run.
    """
    device = checked_device(config)
    enough = next(n for n in count() if grown(n, config)[0] >= log2(config.image_size) - 2)
    if config.num_epochs < enough:
        raise RunError(
            f"num_epochs is {config.num_epochs}; growing to image_size {config.image_size} takes {enough} "
            "with these fade_epochs and hold_epochs."
        )
    dcgan = open_dcgan(config).to(device) if config.against else None
    data, kept_apart, config = open_images(config, device, side=config.image_size)

    set_seed(config.seed)
    widths = widths_of(config.width, config.image_size)
    net, critic = Generator(config.nz, widths), Critic(widths)
    for each in (net, critic):
        each.to(device, memory_format=torch.channels_last)
    optimizers = [fused_adam(each, config.lr, beta1=0.0, beta2=0.99) for each in (net, critic)]
    average = WeightAverage(net, config.ema_decay)
    parts = {"g_model": net, "d_model": critic, "g_ema_model": average.net}
    parts |= dict(zip(["g_optimizer", "d_optimizer"], optimizers))
    fixed_noise = torch.randn(64, config.nz, 1, 1).to(device)

    def picture():
        images = generate(average.net, fixed_noise)
        return make_grid(enlarged(images, config.image_size // images.shape[-1]))

    with Run(config, parts, METRICS, data) as run:
        run.save_picture("real.png", lambda: make_grid(to_images(torch.tensor(data.images[:64]))))
        for epoch in run.epochs():
            for real in run.batches():
                growth, since = grown(epoch + run.seen / data.count, config)
                for each in (net, average.net):
                    each.growth.fill_(growth)
                average.set_share(since * len(data))  # it forgets what a new level begins with
                run.count(train_step(real, net, critic, optimizers, config, growth))
                average.update(net)
            run.end_epoch(picture)
    if get_rank() == 0:
        save_picture(picture_of_growth(run.folder, config), run.folder / "growth.png")
    made = {"Progressive GAN": average.net} | ({"DCGAN": dcgan} if dcgan else {})
    made = {name: drawn(each, len(kept_apart), config.seed) for name, each in made.items()}
    made["real images"] = np.array(data.images[: len(kept_apart)])
    save_figures(run.folder, figures(made, kept_apart), len(kept_apart))
    return run.folder


def open_dcgan(config):
    """The generator that `against` names. Raises RunError where it draws no images of image_size."""
    try:
        dcgan = load_generator(*find_checkpoint(config.against))
    except RunError as error:
        raise RunError(f"against cannot be used: {error}") from error
    channels, *_, side = generate(dcgan, torch.zeros(1, nz_of(dcgan), 1, 1))[0].shape
    if (channels, side) != (3, config.image_size):
        raise RunError(
            f"against {config.against} draws {side} x {side} pixels of {channels} channels, not "
            f"{config.image_size} x {config.image_size} of 3; name another, or none by "
            "--against=."
        )
    return dcgan


def nz_of(net):
    """Length of the noise that a generator takes, this one or a DCGAN's."""
    return next(layer.in_channels for layer in net.modules() if hasattr(layer, "in_channels"))


def drawn(net, count, seed):
    """The first `count` images of a seed, uint8 (count, H, H, 3)."""
    return as_pixels(
        torch.cat([draw(net, noise) for noise in draw_noise(count, nz_of(net), seed)])
    )[:count]


def figures(made, real):
    """SWD of each level from real images, its mean, and the contrast, of {name: images}; all of them
    uint8 (N, H, H, 3). What real images have is the least that can be reached."""
    points, rows = descriptors(real), {}
    for name, pixels in made.items():
        distances = swd(descriptors(pixels), points)
        rows[name] = {f"SWD {side}": distance for side, distance in distances.items()}
        rows[name] |= {"SWD": float(np.mean([*distances.values()])), "contrast": contrast(pixels)}
    return rows


def picture_of_growth(folder, config):
    """The first faces as they were when each level was done, one below the other (a PIL image), from
    the pictures of the epochs; one that was deleted or damaged meanwhile is left black."""
    ends = {grown(epoch + 1, config)[0]: epoch for epoch in range(config.num_epochs)}
    ends = [epoch for growth, epoch in ends.items() if growth == int(growth)]
    step = config.image_size + 2  # with the line above
    grid = Image.new("RGB", (8 * step + 2, len(ends) * step + 2))
    for row, epoch in enumerate(ends):
        with suppress(OSError, SyntaxError):  # Pillow raises both
            picture = Image.open(folder / f"epoch_{epoch:03d}.png")
            grid.paste(picture.crop((0, 0, 8 * step + 2, step)), (0, row * step))
    return grid


# --- using it


def use(config: Use) -> list[Path]:
    """Draw what config asks for; returns the paths of what was written.

    Raises RunError, with a sentence for the user, for bad input.
    """
    net = open_net(config, "progan", build)
    nz = nz_of(net)
    if config.walk is not None and not 0 <= config.walk < nz:
        raise RunError(f"walk is {config.walk}; this z_idx must be from 0 to {nz - 1}.")
    written = save_pictures(net, nz, config, new_folder(config.out_dir))
    print(*written, sep="\n")
    return written


def build(weights):
    """The net of a state dict."""
    layers = [weights[key] for key in weights if "to_rgb" in key and "weight" in key]
    widths = [layer.shape[1] for layer in layers]
    if not 0 <= float(weights["growth"]) < len(widths):
        raise ValueError("it has grown out of itself")
    return Generator(weights["levels.0.1.weight"].shape[1], widths)


def main():
    train_or_use(train, Config, use, Use)


if __name__ == "__main__":
    run_as_script(main)
