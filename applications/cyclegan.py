"""From one style to another, learnt without pairs: CycleGAN (Zhu et al. 2017, arXiv:1703.10593).

python -m applications.cyclegan                         # train: photographs and drawings
python -m applications.cyclegan --data-a horses --data-b zebras.zip
python -m applications.cyclegan --resume latest         # go on with an interrupted run
python -m applications.cyclegan --input photo.jpg --out-dir drawn
python -m applications.cyclegan --input drawing.png --out-dir real --direction BtoA
python -m applications.cyclegan --help                  # every constant below is also a flag
"""

import signal
import sys

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not __spec__:  # started as a file, not by -m
        sys.path.append(f"{sys.path[0]}/..")

import io
import zipfile
from dataclasses import dataclass, replace
from functools import partial
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
    change_picture,
    checked_device,
    open_images,
    open_net,
    save_figures,
    step,
    train_or_use,
    use_on_pictures,
)
from applications.nets import Doubled, Residual, patch_discriminator
from common_tools import run_as_script, set_seed
from machinery.acceleration import autocast, fused_adam
from machinery.batches import to_images
from machinery.constants import Below1, Count, Free, Place, Rate, Weight, one_of
from machinery.ema import WeightAverage
from machinery.figures import descriptors, swd
from machinery.files import atomic_write
from machinery.pictures import make_grid, to_pictures
from machinery.processes import first_on_each_machine
from machinery.run import Run
from my_dataset import CELEBA_DIR, DRAWN_FACES
from sampling import draw_noise, find_checkpoint, generate, load_generator, released

Direction = Annotated[str, one_of({name: name for name in ("AtoB", "BtoA")})]


@dataclass
class Config(TrainConfig):
    """Learn to give pictures another style. With --input and --out-dir: do it to yours (--input x --help
    tells more). Every constant can be edited in applications/cyclegan.py or given as a flag."""

    data_a: Free[Place] = CELEBA_DIR  # folder or .zip; where CelebA is missing: generated faces
    data_b: Free[Place] = DRAWN_FACES  # folder or .zip of images of another style
    num_epochs: Free[Count] = 9  # times through the smaller set, but the tenth that is kept apart
    batch_size: Count = 2  # images of each kind in one iteration (of each process, under torchrun)
    width: Count = 24  # channels of the nets' first layers
    blocks: Count = 4  # residual blocks in a generator
    lr: Rate = 0.0003  # learning rate of Adam; in the second half of the epochs it falls to 0
    cycle: Weight = 2  # weight of the absolute error of there and back, beside 1 for what D says
    identity: Weight = 0.5  # weight of the absolute error of an image that has its style already
    pool: Count = 50  # earlier images that D is shown beside new ones
    ema_decay: Below1 = 0.999  # of the moving average of the nets' weights, which is what is used
    out_dir: Free[Place] = "log_gan/cyclegan"  # each run gets a folder of its own in here


@dataclass
class Use(UseConfig):
    """Give pictures another style: draw photographs, with the released weights, or the other way."""

    direction: Direction = "AtoB"  # AtoB or BtoA


METRICS = {
    "loss_adversarial": "adversarial loss",
    "loss_cycle": "there and back",
    "loss_identity": "identity",
    "loss_d": "Loss_D",
    "d_real": "D(real)",
    "d_made": "D(made)",
}
GENERATED_FACES = "data/generated_faces.zip"  # made on first use
EYES = slice(26, 40), slice(14, 50)  # rows and columns of an aligned face where they are
MOUTH = slice(42, 54), slice(18, 46)


def generator(width, blocks):
    """Images (N, 3, H, W) in [-1, 1] -> the same in another style.

    The paper's has 64 channels and 9 blocks, for images of 256 x 256, and enlarges by transposed
    convolutions, which leave the pattern of a chessboard (Odena et al. 2016,
    doi:10.23915/distill.00003). Instance norm, which takes away how bright and of which colour an
    image is as a whole, stands here in the residual blocks alone, around which that goes on.
    """
    wide = 4 * width
    layers = [nn.Conv2d(3, width, 5, 1, 2, padding_mode="reflect", bias=False)]
    layers += [nn.GroupNorm(1, width), nn.ReLU()]
    for before, after in [(width, 2 * width), (2 * width, wide)]:
        layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False)]
        layers += [nn.GroupNorm(1, after), nn.ReLU()]
    layers += [Residual(wide, nn.InstanceNorm2d) for _ in range(blocks)]
    for before, after in [(wide, 2 * width), (2 * width, width)]:
        layers += [nn.Identity(), Doubled(before, after)]  # the weights' names count it
        layers += [nn.GroupNorm(1, after), nn.ReLU()]
    layers += [nn.Conv2d(width, 3, 5, 1, 2, padding_mode="reflect"), nn.Tanh()]
    return nn.Sequential(*layers)


def both_ways(width, blocks):
    return nn.ModuleDict({name: generator(width, blocks) for name in ("AtoB", "BtoA")})


class Pool:
    """Earlier images of a generator, of which D is shown some, so that it does not forget what it has
    learnt to see through (Shrivastava et al. 2017, arXiv:1612.07828)."""

    def __init__(self, size):
        self.size, self.images = size, None

    @torch.no_grad()
    def swap(self, images):
        """Images (N, C, H, W), of which every other one at random is an earlier one, for which it stays
        here; until there are enough, all of them are as they were."""
        if self.images is None or len(self.images) < self.size:
            kept = images if self.images is None else torch.cat([self.images.to(images), images])
            self.images = kept[: self.size].clone()
            return images
        shown, self.images = images.clone(), self.images.to(images.device)  # from a checkpoint
        for place in (torch.rand(len(images)) < 0.5).nonzero():
            other = torch.randint(self.size, (1,))
            shown[place], self.images[other] = self.images[other], images[place]
        return shown

    def state_dict(self):
        return {} if self.images is None else {"images": self.images}

    def load_state_dict(self, state):
        self.images = state.get("images")


class Unpaired:
    """Batches of two sets of images, FaceBatches, each in its own order; for a Run. An epoch is once
    through the smaller set; of the larger one it has as many, each time others.

    Not channels_last, which instance norm does not take as it is on a CPU."""

    unit = "pairs of images"

    def __init__(self, first, second):
        self.both, self.total, self.device = (first, second), first.total, first.device
        self.count = min(first.count, second.count)
        self.source = f"{first.source} and {second.source}"
        self.fingerprint = first.fingerprint ^ (second.fingerprint << 1)

    def epoch(self, epoch, seen=0):
        for batches in zip(*(each.epoch(epoch, seen) for each in self.both)):
            yield [images.contiguous() for images in batches]


def train_step(a, b, nets, discriminators, optimizer, optimizer_d, pools, config):
    """One iteration: a step of both generators, then one of both discriminators.

    a, b: (N, 3, 64, 64) in [-1, 1], of either style; nets, discriminators, pools: by "AtoB" and "BtoA",
    whose style B and A is. Returns the METRICS, on the device.
    """
    half, count = autocast(a.device, config.bf16), len(a)
    wanted = {"AtoB": b, "BtoA": a}

    # (1) The generators: there, and back again; and what has the style already stays as it is
    with half:
        to_b = nets["AtoB"](torch.cat([a, b])).to(a.dtype)
        to_a = nets["BtoA"](torch.cat([b, a])).to(a.dtype)
        made = {"AtoB": to_b[:count], "BtoA": to_a[:count]}
        back = nets["BtoA"](made["AtoB"]).to(a.dtype), nets["AtoB"](made["BtoA"]).to(a.dtype)
        judged = [discriminators[name](made[name]).float() for name in made]
    adversarial = sum((1 - logits).square().mean() for logits in judged)
    cycle = F.l1_loss(back[0], a) + F.l1_loss(back[1], b)
    identity = F.l1_loss(to_b[count:], b) + F.l1_loss(to_a[count:], a)
    loss = adversarial + config.cycle * cycle + config.identity * identity
    step(loss, nets, optimizer)

    # (2) The discriminators, by least squares, on images of now and before
    loss_d, real, fake = 0, 0, 0
    for name, discriminator in discriminators.items():
        shown = pools[name].swap(made[name].detach())
        with half:
            logits_real = discriminator(wanted[name]).float()
            logits_made = discriminator(shown).float()
        loss_d += ((1 - logits_real).square().mean() + logits_made.square().mean()) / 2
        real, fake = real + logits_real.mean() / 2, fake + logits_made.mean() / 2
    step(loss_d, discriminators, optimizer_d)
    return torch.stack([adversarial, cycle, identity, loss_d, real, fake]).detach()


def train(config: Config) -> Path:
    """Train as config says, or go on with the run folder config.resume. Returns the run's folder.

    Raises RunError, with a sentence for the user, for bad input and for what stops a Run.
    """
    device = checked_device(config)
    config = replace(config, data_a=find_photos(config.data_a))
    data_a, apart_a, config = open_images(config, device, "data_a")
    data_b, apart_b, config = open_images(config, device, "data_b")
    data, count = Unpaired(data_a, data_b), min(len(apart_a), len(apart_b))
    a, b = (to_images(torch.tensor(each[:count])).to(device) for each in (apart_a, apart_b))

    set_seed(config.seed)
    nets = both_ways(config.width, config.blocks)
    discriminators = nn.ModuleDict(  # without a norm, so that they see the colours of the whole
        {name: patch_discriminator(3, 32, nn.Identity) for name in nets}
    )
    for each in (nets, discriminators):
        each.to(device)
    optimizer = fused_adam(nets, config.lr, beta1=0.5)
    optimizer_d = fused_adam(discriminators, config.lr, beta1=0.5)
    average = WeightAverage(nets, config.ema_decay)
    pools = {name: Pool(config.pool) for name in nets}
    parts = {"g_model": nets, "d_model": discriminators, "g_ema_model": average.net}
    parts |= {"g_optimizer": optimizer, "d_optimizer": optimizer_d}
    parts |= {f"pool_{name}": pool for name, pool in pools.items()}

    with Run(config, parts, METRICS, data) as run:
        first = [to_images(torch.tensor(each.images[:8])) for each in data.both]
        run.save_picture("real.png", lambda: make_grid(torch.cat(first), 8))
        for epoch in run.epochs():
            for each in (optimizer, optimizer_d):
                each.param_groups[0]["lr"].fill_(
                    config.lr * min(1, 2 - 2 * epoch / config.num_epochs)
                )
            for batch in run.batches():
                average.set_share(run.step)
                run.count(
                    train_step(*batch, nets, discriminators, optimizer, optimizer_d, pools, config)
                )
                average.update(nets)
            run.end_epoch(lambda: quadruples(average.net, a[:8], b[:8]))
    save_figures(run.folder, figures(average.net, a, b), count)
    return run.folder


def quadruples(nets, a, b):
    """The picture of an epoch: images of A above what they become in B, and the other way."""
    made = apply(nets["AtoB"], a), apply(nets["BtoA"], b)
    return make_grid(torch.cat([a, made[0], b, made[1]]), len(a))


def figures(nets, a, b):
    """For both directions: SWD to the target before and after, of there and back the absolute error
    in levels of 0 to 255, and how many pixels eyes and mouth have moved.

    a, b: as many images of A as of B, (N, 3, 64, 64) in [-1, 1].
    """
    rows = {}
    for name, back, given, target in [("AtoB", "BtoA", a, b), ("BtoA", "AtoB", b, a)]:
        made = apply(nets[name], given)
        wanted = descriptors(as_pixels(target))
        error = as_pixels(apply(nets[back], made)).astype(float) - as_pixels(given)
        for row, images in ((f"{name} before", given), (name, made)):
            distances = swd(descriptors(as_pixels(images)), wanted)
            rows[row] = {
                "SWD": float(np.mean([*distances.values()])),
                "cycle": 0.0 if images is given else float(np.abs(error).mean()),
                "eyes": moved(given, images, *EYES),
                "mouth": moved(given, images, *MOUTH),
            }
    return rows


def moved(images, others, rows, columns, farthest=4):
    """Mean over pairs of images (N, 3, H, W) of how many pixels a window of the first has to be moved
    to be most like the second there: with the highest correlation of their gray values."""

    def window(images, down=0, right=0):
        gray = images.mean(1)[:, rows.start + down : rows.stop + down]
        cut = gray[..., columns.start + right : columns.stop + right].flatten(1)
        return F.normalize(cut - cut.mean(1, keepdim=True))

    span = range(-farthest, farthest + 1)
    moves = sorted([(y, x) for y in span for x in span], key=lambda move: np.hypot(*move))
    alike = torch.stack([(window(images) * window(others, *move)).sum(1) for move in moves])
    return float(np.mean([np.hypot(*moves[best]) for best in alike.argmax(0).tolist()]))


@first_on_each_machine()
def find_photos(place):
    """The folder or zip of photographs: place, or where CelebA is to be but is not, faces that the
    released generator draws on first use."""
    missing = not Path(place).exists() and not Path(f"{place}.zip").exists()
    again = Path(place).absolute() == Path(GENERATED_FACES).absolute()  # of a run that had them
    if not missing or place != CELEBA_DIR and not again:
        return place
    print(
        f"No CelebA at {CELEBA_DIR} or {CELEBA_DIR}.zip; going on with generated faces.", flush=True
    )
    if not Path(GENERATED_FACES).exists():
        net = load_generator(*find_checkpoint(released()[0]))
        whole = atomic_write(GENERATED_FACES, make_folder=True)
        with whole as file, zipfile.ZipFile(file, "w") as archive:
            for block in draw_noise(2000, net.main[0].in_channels, seed=1):
                for picture in to_pictures(generate(net, block)):
                    number, png = len(archive.namelist()) + 1, io.BytesIO()
                    picture.save(png, "PNG")
                    archive.writestr(zipfile.ZipInfo(f"{number:06d}.png"), png.getvalue())
    return GENERATED_FACES


# --- using it


def use(config: Use) -> list[Path]:
    """Give each picture that config names another style; returns the paths of what was written.

    Raises RunError, with a sentence for the user, for bad input.
    """
    net = open_net(config, "cyclegan", build)[config.direction]
    return use_on_pictures(config, partial(change_picture, net))


def build(weights):
    """The nets of a state dict."""
    layers = {key.split(".")[1] for key in weights if key.startswith("AtoB.") and "layers" in key}
    return both_ways(weights["AtoB.0.weight"].shape[0], len(layers))


def main():
    train_or_use(train, Config, use, Use)


if __name__ == "__main__":
    run_as_script(main)
