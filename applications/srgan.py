"""Sharp from blurred, 4 times a side: SRGAN (Ledig et al. 2017, arXiv:1609.04802).

python -m applications.srgan                         # train; CelebA if it is there
python -m applications.srgan --data-dir my_photos.zip
python -m applications.srgan --resume latest         # go on with an interrupted run
python -m applications.srgan --input small.jpg --out-dir large
python -m applications.srgan --help                  # every constant below is also a flag
"""

import signal
import sys

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not __spec__:  # started as a file, not by -m
        sys.path.append(f"{sys.path[0]}/..")

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from applications.common import (
    SIDE,
    TrainConfig,
    UseConfig,
    as_pixels,
    checked_device,
    open_images,
    open_net,
    save_figures,
    step,
    train_or_use,
    use_on_pictures,
)
from applications.nets import Residual
from common_tools import RunError, run_as_script, set_seed
from dcgan import Discriminator, initialize_weights
from machinery.acceleration import autocast, fused_adam
from machinery.batches import to_images
from machinery.checkpoints import load_checkpoint, save_checkpoint
from machinery.constants import Below1, Count, Free, Place, Rate, Weight, one_of
from machinery.ema import WeightAverage
from machinery.figures import descriptors, psnr, swd
from machinery.pictures import make_grid, to_pixels
from machinery.processes import get_rank
from machinery.run import Run
from my_dataset import CELEBA_DIR

Content = Annotated[str, one_of({"discriminator": "discriminator", "vgg": "vgg"})]


@dataclass
class Config(TrainConfig):
    """Learn to sharpen pictures, 4 times a side. With --input and --out-dir: sharpen yours (--input x
    --help tells more). Every constant can be edited in applications/srgan.py or given as a flag."""

    data_dir: Free[Place] = CELEBA_DIR  # folder or .zip of images
    num_epochs: Free[Count] = 24  # times through all the images but the tenth that is kept apart
    mse_epochs: Count = 15  # of them the first, which make an SRResNet, by mean squared error alone
    batch_size: Count = 16  # images in one iteration (of each process, under torchrun)
    width: Count = 48  # channels of the net
    blocks: Count = 8  # residual blocks in it
    lr: Rate = 0.0005  # learning rate of the net's Adam; a fifth of it after the first epochs
    lr_d: Rate = 0.0002  # and of the discriminator's
    adversarial: Weight = 0.01  # weight of the adversarial loss, beside 1 for the squared error
    content: Content = "discriminator"  # whose features are to be like the truth's; or vgg
    content_weight: Weight = 0.02  # weight of the squared error of these features
    ema_decay: Below1 = 0.999  # of the moving average of the net's weights, which is what is used
    out_dir: Free[Place] = "log_gan/srgan"  # each run gets a folder of its own in here


@dataclass
class Use(UseConfig):
    """Sharpen pictures, 4 times a side. (A run's srresnet.pkl is a file for --path-checkpoint.)"""


METRICS = {
    "loss_mse": "squared error",
    "loss_content": "content loss",
    "loss_adversarial": "adversarial loss",
    "loss_d": "Loss_D",
    "d_real": "D(real)",
    "d_made": "D(made)",
}
FACTOR = 4
BLOCK, HALO = 128, 32  # pixels a side of a tile of a picture; more of them around it, to look at
MOST = 4  # million pixels of a picture


class SRResNet(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] -> (N, 3, 4 H, 4 W): the bicubic enlargement, and what the net
    adds to it.

    The paper's net has 16 blocks of 64 channels, BatchNorm in them, and makes the whole picture; what
    is left out of that costs time and no sharpness (Lim et al. 2017, arXiv:1707.02921).
    """

    def __init__(self, width, blocks):
        super().__init__()
        half = max(1, width // 2)
        self.first = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.PReLU(width))
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.after = nn.Conv2d(width, width, 3, padding=1)
        self.enlarge = nn.Sequential(
            *(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(width)),
            *(nn.Conv2d(width, 4 * half, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(half)),
            nn.Conv2d(half, 3, 5, padding=2),
        )

    def forward(self, small):
        features = self.first(small)
        added = self.enlarge(features + self.after(self.blocks(features)))
        return bicubic(small) + added


def bicubic(images):
    """Images (N, C, H, W) enlarged as Pillow does it (antialias gives its kernel): the baseline."""
    return F.interpolate(images, scale_factor=FACTOR, mode="bicubic", antialias=True)


def shrink(images):
    """Images (N, C, H, W) in [-1, 1] at a quarter of their sides, rounded to what a file can hold."""
    small = F.interpolate(images, scale_factor=1 / FACTOR, mode="bicubic", antialias=True)
    return (small.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1


def vgg_features():
    """The layers of VGG19 whose features the paper compares, frozen: images in [-1, 1] -> features.

    Raises RunError where torchvision cannot load the weights.
    """
    from torchvision.models import VGG19_Weights, vgg19  # slow to load

    weights = VGG19_Weights.IMAGENET1K_V1
    try:
        layers = vgg19(weights=weights).features.requires_grad_(False).eval()
    except Exception as error:  # of the network, the disk, or a damaged file
        raise RunError(
            f"the weights of VGG19 cannot be loaded ({error}); put the file of {weights.url} into "
            f"{torch.hub.get_dir()}/checkpoints, or leave content at discriminator."
        ) from error
    ranges = weights.transforms()
    mean, std = (torch.tensor(each)[:, None, None] for each in (ranges.mean, ranges.std))

    def features(images):
        images = (images / 2 + 0.5 - mean.to(images.device)) / std.to(images.device)
        return layers.to(images.device)(images) / 12.75  # the paper's scale

    return features


def train_step(real, net, discriminator, optimizer, optimizer_d, features, config, adversarial):
    """One iteration: a step of the net by squared error; if adversarial, after a step of D, also by
    what D says and by the squared error of features, a function of images.

    real: (N, 3, 64, 64) in [-1, 1]. Returns the METRICS, on the device.
    """
    half = autocast(real.device, config.bf16)
    with half:
        made = net(shrink(real))
    made = made.to(real.dtype)
    loss = mse = F.mse_loss(made, real)
    numbers = [mse, *torch.zeros(5, device=real.device)]
    if adversarial:
        # (1) D: real or made?
        with half:
            logits_real = discriminator(real, logits=True).float()
            logits_made = discriminator(made.detach(), logits=True).float()
        loss_d = F.softplus(-logits_real).mean() + F.softplus(logits_made).mean()
        step(loss_d, discriminator, optimizer_d)

        # (2) The net: the paper leaves the squared error out here; it keeps colours and shapes true
        with half:
            fooled = F.softplus(-discriminator(made, logits=True).float()).mean()
            with torch.no_grad():
                wanted = features(real)
            content = F.mse_loss(features(made).float(), wanted.float())
        loss = mse + config.content_weight * content + config.adversarial * fooled
        judged = logits_real.sigmoid().mean(), logits_made.sigmoid().mean()
        numbers = [mse, content, fooled, loss_d, *judged]
    step(loss, net, optimizer)
    return torch.stack(numbers).detach()


def train(config: Config) -> Path:
    """Train as config says, or go on with the run folder config.resume. Returns the run's folder.

    Raises RunError, with a sentence for the user, for bad input and for what stops a Run.
    """
    device = checked_device(config)
    vgg = vgg_features() if config.content == "vgg" else None
    data, kept_apart, config = open_images(config, device)
    truth = to_images(torch.tensor(kept_apart)).to(device)

    set_seed(config.seed)
    net, discriminator = SRResNet(config.width, config.blocks), Discriminator(3, 32, SIDE)
    initialize_weights(discriminator)
    for each in (net, discriminator):
        each.to(device, memory_format=torch.channels_last)
    optimizer = fused_adam(net, config.lr, beta1=0.9)
    optimizer_d = fused_adam(discriminator, config.lr_d, beta1=0.5)
    average = WeightAverage(net, config.ema_decay)
    parts = {"g_model": net, "d_model": discriminator, "g_ema_model": average.net}
    parts |= {"g_optimizer": optimizer, "d_optimizer": optimizer_d}
    nets = net, discriminator, optimizer, optimizer_d, vgg or discriminator.main[:8]

    with Run(config, parts, METRICS, data) as run:
        srresnet = run.folder / "srresnet.pkl"
        run.save_picture("real.png", lambda: make_grid(to_images(torch.tensor(data.images[:64]))))
        for epoch in run.epochs():
            adversarial = epoch >= config.mse_epochs
            optimizer.param_groups[0]["lr"].fill_(config.lr * (0.2 if adversarial else 1))
            for real in run.batches():
                average.set_share(run.step)
                run.count(train_step(real, *nets, config, adversarial))
                average.update(net)
            last = epoch + 1 == min(config.mse_epochs, config.num_epochs) and run.epoch_done
            if last and get_rank() == 0:
                weights = average.net.state_dict()
                save_checkpoint({"epoch": epoch, "g_model_state_dict": weights}, srresnet)
            run.end_epoch(lambda: triples(average.net, truth[:8]))
    stages = {"SRGAN": average.net} if config.num_epochs > config.mse_epochs else {}
    if srresnet.exists():  # it may have been deleted since
        first = deepcopy(average.net)
        first.load_state_dict(load_checkpoint(srresnet)["g_model_state_dict"])
        stages = {"SRResNet": first} | stages
    save_figures(run.folder, figures(stages, truth, kept_apart), len(truth))
    return run.folder


def triples(net, truth):
    """The picture of an epoch: images as small as the net sees them, enlarged by it, and the truth."""
    small = shrink(truth)
    shown = F.interpolate(small, scale_factor=FACTOR)
    return make_grid(torch.cat([shown, enlarged(net, small), truth]), len(truth))


@torch.no_grad()
def enlarged(enlarge, images):
    """Images (N, 3, H, W) in [-1, 1] -> (N, 3, 4 H, 4 W), by a net or bicubic()."""
    return torch.cat([enlarge(each) for each in images.split(100)])


def figures(nets, truth, pixels):
    """PSNR and SWD of the finest level, of bicubic enlargement and of {name: net}.

    truth: (N, 3, 64, 64) in [-1, 1]; pixels: the same as uint8 (N, 64, 64, 3).
    """
    small, real, rows = shrink(truth), finest(pixels), {}
    for name, enlarge in {"bicubic": bicubic, **nets}.items():
        made = as_pixels(enlarged(enlarge, small))
        rows[name] = {"PSNR": psnr(made, pixels), f"SWD {SIDE}": swd(finest(made), real)[SIDE]}
    return rows


def finest(pixels):
    return {SIDE: descriptors(pixels)[SIDE]}


# --- using it


def use(config: Use) -> list[Path]:
    """Enlarge each picture that config names; returns the paths of what was written.

    Raises RunError, with a sentence for the user, for bad input.
    """
    net = open_net(config, "srgan", build)
    return use_on_pictures(config, lambda picture: (picture, enlarge_picture(net, picture)))


def build(weights):
    """The net of a state dict."""
    blocks = {key.split(".")[1] for key in weights if key.startswith("blocks.")}
    return SRResNet(weights["first.0.weight"].shape[0], len(blocks))


def enlarge_picture(net, picture):
    """A PIL image (RGB) of any size, 4 times a side, made in tiles, so that it takes little memory.

    Raises RunError for one of more than MOST million pixels.
    """
    width, height = picture.size
    if width * height > MOST * 10**6:
        raise RunError(
            f"it has {width * height:,} pixels; of more than {MOST} million make a part."
        )
    pixels, device = np.array(picture), net.after.weight.device
    large = np.empty((FACTOR * height, FACTOR * width, 3), np.uint8)
    for top in range(0, height, BLOCK):
        for left in range(0, width, BLOCK):
            above, before = max(0, top - HALO), max(0, left - HALO)
            tile = pixels[above : top + BLOCK + HALO, before : left + BLOCK + HALO]
            made = enlarged(net, to_images(torch.tensor(tile)[None]).to(device))
            made = to_pixels(made)[0, :, FACTOR * (top - above) :, FACTOR * (left - before) :]
            place = large[FACTOR * top :, FACTOR * left :][: FACTOR * BLOCK, : FACTOR * BLOCK]
            place[:] = made.permute(1, 2, 0)[: place.shape[0], : place.shape[1]]
    return Image.fromarray(large)


def main():
    train_or_use(train, Config, use, Use)


if __name__ == "__main__":
    run_as_script(main)
