"""Train a DCGAN to draw faces (Radford, Metz and Chintala 2016, arXiv:1511.06434).

python gan_demo.py                                        # CelebA if it is there, else drawn faces
python gan_demo.py --data-dir my_images.zip --num-epochs 50
python gan_demo.py --resume latest                        # go on with an interrupted run
torchrun --standalone --nproc-per-node 8 gan_demo.py      # on 8 GPUs
python gan_demo.py --help                                 # every constant below is also a flag
"""

import signal

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from tqdm import tqdm

from common_tools import RunError, choose_device, run_as_script, set_seed
from dcgan import IMAGE_SIZES, Discriminator, Generator
from machinery import constants
from machinery.acceleration import autocast, captured, fused_adam
from machinery.batches import FaceBatches, to_images
from machinery.console import command, quoted
from machinery.constants import (
    Below1,
    Count,
    Free,
    OrAll,
    OrNever,
    Place,
    Range,
    Rate,
    RunConfig,
    Share,
    Weight,
    check_config,
    one_of,
    train_as_told,
)  # fmt: skip
from machinery.diffaugment import Policy, augment
from machinery.ema import WeightAverage
from machinery.pictures import make_grid
from machinery.processes import average_gradients, from_rank_0
from machinery.run import Run
from my_dataset import CELEBA_DIR, find_apart, load_faces
from sampling import find_checkpoint, find_discriminator, generate, load_generator, places_of_d

ImageSize = Annotated[int, one_of({size: str(size) for size in IMAGE_SIZES})]
Channels = Annotated[int, one_of({1: "1 (gray)", 3: "3 (RGB)"})]
RateOfD = Annotated[float, Range("0 (lr) or more, and at most 1", lambda rate: 0 <= rate <= 1)]


@dataclass
class Config(RunConfig):
    """Train a DCGAN. Every constant can be edited in gan_demo.py or given as a flag."""

    # The type tells the range. Free: it may differ when a run goes on. The seed, the device and the
    # output have constants too: those of every run (RunConfig in machinery/constants.py). A line in
    # here, such as keep_checkpoints: int = 0, gives one of them another default.

    # --- data
    data_dir: Free[Place] = CELEBA_DIR  # folder or .zip of images
    max_images: OrAll = 0  # train on the first so many images only (0: all)
    skip_bad_images: bool = False  # go on without the images that cannot be read
    horizontal_flip: bool = True  # show every other image mirrored, at random
    cache_dir: Free[Place] = "data/cache"  # decoded images are kept here; may be deleted any time

    # --- images and nets
    image_size: ImageSize = 64  # pixels a side: 32, 64, 128 or 256
    nc: Channels = 3  # channels of an image: 3 is RGB, 1 is gray
    nz: Count = 100  # length of the latent vector
    ngf: Count = 64  # width of the generator (128 in the chapter's good run)
    ndf: Count = 64  # width of the discriminator (128 in the chapter's good run)

    # --- training
    num_epochs: Free[Count] = 32  # times through all the images
    batch_size: Count = 16  # images in one iteration (of each process, under torchrun)
    lr: Rate = 0.0002  # learning rate of both Adam optimizers
    lr_d: RateOfD = 0.0  # that of D's, if it is to be another one (0: lr)
    beta1: Below1 = 0.5  # Adam's first beta (the second is 0.999)
    real_label: Share = 0.9  # target for real images, G's for its own (below 1: label smoothing)
    fake_label: Share = 0.0  # D's target for generated images (0.1: label smoothing)
    diffaugment: Policy = "shift"  # changes D sees: color, translation, cutout, shift; with commas
    match_contrast: Weight = 10.0  # holds G's colors and contrast to real ones (0: does not)
    ema_decay: Below1 = 0.999  # draw with a moving average of G's weights, of this decay (0: none)
    lr_decay_epochs: OrNever = 0  # epochs after which lr falls to a tenth, and again (0: never)
    init_from: str = ""  # file or folder whose weights to start from, instead of random ones
    bf16: Free[bool] = True  # compute in bfloat16 on GPUs and CPUs that have units for it

    # How runs were trained whose config.json is from before there were these constants.
    OLDER: ClassVar = {
        "diffaugment": "", "ema_decay": 0.0, "lr_d": 0.0, "lr_decay_epochs": 0, "match_contrast": 0.0,
    }  # fmt: skip
    # Constants that runs once had.
    GONE: ClassVar = {"job", "num_workers", "recipe"}


# The chapter's own training, as --recipe chapter gives it; its public script lets lr fall.
CHAPTER = {
    "horizontal_flip": False, "num_epochs": 20, "batch_size": 64, "lr": 0.0002, "lr_d": 0.0,
    "beta1": 0.5, "real_label": 1.0, "fake_label": 0.0, "diffaugment": "", "match_contrast": 0.0,
    "ema_decay": 0.0, "lr_decay_epochs": 8,
}  # fmt: skip

METRICS = {  # of an iteration: in metrics.csv and in the curves
    "loss_d": "Loss_D",
    "loss_g": "Loss_G",
    "d_x": "D(x)",
    "d_gz_before": "D(G(z)) before the D step",
    "d_gz_after": "D(G(z)) after it",
}


def train_step(real, noise, generator, discriminator, optimizer_g, optimizer_d, config):
    """One iteration: a step of D on a real and a fake batch, then a step of G through the new D.

    real: (N, nc, image_size, image_size) in [-1, 1]; noise: (N, nz, 1, 1).
    Returns the iteration's METRICS as a tensor of five, still on the device.
    """
    half = autocast(real.device, config.bf16)

    def loss(logits, label):
        logits = logits.to(real.dtype)  # bfloat16 would be too coarse for a loss
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))

    # (1) D: tell real from fake; two passes, so that BatchNorm sees the two batches apart
    with half:
        drawn = generator(noise)
        fake = augment(drawn, config.diffaugment)
        logits_real = discriminator(augment(real, config.diffaugment), logits=True)
        logits_fake = discriminator(fake.detach(), logits=True)
    loss_d = loss(logits_real, config.real_label) + loss(logits_fake, config.fake_label)
    optimizer_d.zero_grad()
    loss_d.backward()
    average_gradients(discriminator)
    optimizer_d.step()

    # (2) G: make the updated D take the same fakes for real; D itself is frozen
    with half:
        logits_after = discriminator(fake, logits=True)
    loss_g = total_g = loss(logits_after, config.real_label)
    if config.match_contrast:  # D's BatchNorm takes both out of a batch, so D cannot see them
        total_g = loss_g + config.match_contrast * contrast_loss(drawn, real)
    optimizer_g.zero_grad()
    total_g.backward(inputs=list(generator.parameters()))  # no others get gradients
    average_gradients(generator)
    optimizer_g.step()

    judged = (logits_real, logits_fake, logits_after)
    probabilities = [logits.to(real.dtype).sigmoid().mean() for logits in judged]
    return torch.stack([loss_d, loss_g, *probabilities]).detach()


def contrast_loss(images, real):
    """How far mean and standard deviation lie from those of real images, squared: over the channels.

    images, real: (N, C, H, W) in [-1, 1]. Returns the mean over the C channels, a scalar.
    """
    found, wanted = (
        torch.stack(torch.std_mean(batch, dim=(0, 2, 3))) for batch in (images.to(real.dtype), real)
    )
    return (found - wanted).square().sum(0).mean()


def train(config: Config) -> Path:
    """Train as config says, or go on with the run folder config.resume. Returns the run's folder.

    Raises RunError, with a sentence for the user, for bad input and for what stops a Run.
    """
    check_config(config)
    device = choose_device(config.device)

    # Data: image files -> one array -> batches
    source = find_apart(config.data_dir, config.resume or config.out_dir)
    options = config.image_size, config.nc, config.max_images, config.skip_bad_images
    images, fingerprint = load_faces(source, config.cache_dir, *options)
    faces = FaceBatches(
        images, config.batch_size, config.seed, device, config.horizontal_flip,
        source=source, fingerprint=fingerprint,
    )  # fmt: skip
    config = replace(config, data_dir=os.path.abspath(source))  # to go on from another place, too
    if faces.total > max(config.batch_size, 20) and not config.resume:
        print(
            f"All processes together take {faces.total} images an iteration; smaller batches draw "
            "better faces (docs/several-gpus.md), so consider a lower batch_size."
        )

    # Nets
    set_seed(config.seed)
    generator = Generator(config.nz, config.ngf, config.nc, config.image_size)
    discriminator = Discriminator(config.nc, config.ndf, config.image_size)
    for net in (generator, discriminator):
        net.initialize_weights()
        net.to(device, memory_format=torch.channels_last)  # the layout that convolutions prefer
    if config.init_from and not config.resume:
        initial_weights(generator, discriminator, config.init_from)
    average = WeightAverage(generator, config.ema_decay) if config.ema_decay else None
    fixed_noise = torch.randn(64, config.nz, 1, 1).to(device)  # for the picture of each epoch

    # Optimizers
    lr_d = config.lr_d or config.lr
    optimizer_g = fused_adam(generator, config.lr, config.beta1)
    optimizer_d = fused_adam(discriminator, lr_d, config.beta1)

    # One iteration: D, then G. On CUDA it is recorded in the fourth one and then only replayed, so
    # that Python code in it, such as a print, runs no more.
    def iterate(real, noise):
        nets = generator, discriminator
        numbers = train_step(real, noise, *nets, optimizer_g, optimizer_d, config)
        if average:
            average.update(generator)
        return numbers

    iterate = captured(iterate, device)

    # What a checkpoint holds (beside its place in the run), and what Run restores if there is a run
    # to go on with. Another net: docs/from-the-chapter.md
    parts = {"g_model": generator, "d_model": discriminator}
    parts |= {"g_optimizer": optimizer_g, "d_optimizer": optimizer_d}
    if average:
        parts["g_ema_model"] = average.net

    def draw():
        return make_grid(generate(average.net if average else generator, fixed_noise))

    # Epochs: iterations, then a picture of what the generator draws by now, and a checkpoint
    with Run(config, parts, METRICS, faces, Standing(config)) as run:
        run.save_picture("real.png", lambda: make_grid(to_images(torch.tensor(images[:64]))))
        for epoch in run.epochs():
            decay = 0.1 ** (epoch // config.lr_decay_epochs) if config.lr_decay_epochs else 1
            for optimizer, lr in ((optimizer_g, config.lr), (optimizer_d, lr_d)):
                optimizer.param_groups[0]["lr"].fill_(lr * decay)  # in place: iterate reads it
            for real in run.batches():
                noise = torch.randn(config.batch_size, config.nz, 1, 1, device=device)
                if average:
                    average.set_share(run.step)
                run.count(iterate(real, noise))
            if average:
                noises = (torch.randn_like(fixed_noise) for _ in range(4))
                average.count_statistics(noises)
            run.end_epoch(draw)
    draw_faces = command(Path(__file__).with_name("gan_inference.py"))
    print(f"Done. Draw new faces with: {draw_faces} --path-checkpoint {quoted(run.folder)}")
    return run.folder


def initial_weights(generator, discriminator, path):
    """Take over the weights of the checkpoint at path: of its generator the average, if it has one.

    Where it has no DCGAN discriminator, nor a file beside it one of the same sizes, that stays as it is.
    Raises RunError where the sizes differ.
    """

    def sources():
        found = find_checkpoint(path)
        return found[0], load_generator(*found), find_discriminator(*found, like=discriminator)

    path, source, source_d = from_rank_0(sources)
    try:
        generator.load_state_dict(source.state_dict())
        if source_d:
            discriminator.load_state_dict(source_d.state_dict())
        else:
            print(
                f"{path} has no DCGAN discriminator; this run's starts from random weights. (One of "
                f"its sizes in {places_of_d(Path(path))[0]} would be taken.)"
            )
    except RuntimeError as error:
        layers = [layer for layer in source.main if hasattr(layer, "in_channels")]
        sizes = f"--nz {layers[0].in_channels} --ngf {layers[-1].in_channels} "
        sizes += f"--nc {layers[-1].out_channels} --image-size {2 ** (len(layers) + 1)}"
        if source_d:
            sizes += f" --ndf {source_d.main[0].out_channels}"
        raise RunError(
            f"the nets of init_from {path} have other sizes than this run's; give theirs: {sizes}"
        ) from error


class Standing:
    """What the progress bar says: how D and G stand; and, once, a line if D has won for long."""

    D_WINS = (
        "D has been nearly always right for long, so G learns little from it; "
        "docs/reading-the-curves.md says what to do."
    )

    def __init__(self, config):
        self.lead = 0.0  # how far D(x) is above D(G(z)), averaged over some 200 iterations
        apart = config.real_label - config.fake_label
        self.too_far = 0.95 * apart if apart > 0 else float("inf")

    def __call__(self, block):
        rows = [dict(zip(METRICS, numbers)) for numbers in block]
        for row in rows:
            self.lead = 0.995 * self.lead + 0.005 * (row["d_x"] - row["d_gz_before"])
        if self.lead > self.too_far:
            self.too_far = float("inf")
            tqdm.write(self.D_WINS)
        line = "Loss_D {loss_d:.2f} Loss_G {loss_g:.2f} D(x) {d_x:.2f} "
        return (line + "D(G(z)) {d_gz_before:.2f}/{d_gz_after:.2f}").format(**rows[-1])


def saved_config(resume, out_dir=Config.out_dir):
    """The Config of a run to go on with: its config.json, and resume set to the run's folder.

    In a notebook: train(replace(saved_config("latest"), num_epochs=40)). Raises RunError where
    there is no such run.
    """
    return constants.saved_config(Config, resume, out_dir)


def main():
    train_as_told(train, Config, {"chapter": CHAPTER})


if __name__ == "__main__":
    run_as_script(main)
