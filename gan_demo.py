"""Train a DCGAN to draw faces (Radford, Metz and Chintala 2016, arXiv:1511.06434).

python gan_demo.py                                        # CelebA if it is there, else drawn faces
python gan_demo.py --data-dir my_images.zip --num-epochs 50
python gan_demo.py --resume latest                        # go on with an interrupted run
torchrun --standalone --nproc-per-node 8 gan_demo.py      # on 8 GPUs
python gan_demo.py --help                                 # every constant below is also a flag
"""

import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
import tyro
from PIL import Image

import acceleration
from common_tools import (
    METRICS,
    RunError,
    atomic_write,
    catch_signals,
    checkpoint_paths,
    diverged,
    drop_later_files,
    generate,
    get_random_state,
    is_state_dict,
    load_checkpoint,
    new_folder,
    newest_checkpoint,
    not_finite,
    numbered,
    progress_bar,
    remove_older_checkpoints,
    run_as_script,
    save_animation,
    save_checkpoint,
    save_curves,
    save_grid,
    seed_iteration,
    set_random_state,
    set_seed,
    to_cpu,
    write_metrics,
    writing,
)
from dcgan import IMAGE_SIZES, Discriminator, Generator
from diffaugment import CHANGES, augment
from gan_inference import load_generator
from my_dataset import FaceBatches, find_images, load_faces, to_images


@dataclass
class Config:
    """Train a DCGAN. Every constant can be edited in gan_demo.py or given as a flag."""

    # --- data
    data_dir: str = "data/img_align_celeba"  # folder or .zip of images
    max_images: int = 0  # train on the first so many images only (0: all)
    skip_bad_images: bool = False  # go on without the images that cannot be read
    horizontal_flip: bool = True  # show every other image mirrored, at random
    cache_dir: str = "data/cache"  # where decoded images are kept; may be deleted at any time

    # --- images and nets
    image_size: int = 64  # pixels a side: 32, 64, 128 or 256
    nc: int = 3  # channels of an image: 3 is RGB, 1 is gray
    nz: int = 100  # length of the latent vector
    ngf: int = 64  # width of the generator (128 in the chapter's good run)
    ndf: int = 64  # width of the discriminator (128 in the chapter's good run)

    # --- training
    num_epochs: int = 20  # times through all the images
    batch_size: int = 10  # images in one iteration (of each process, under torchrun)
    lr: float = 0.0002  # learning rate of both Adam optimizers
    lr_d: float = 0.0  # that of D's, if it is to be another one (0: lr)
    beta1: float = 0.5  # Adam's first beta (the second is 0.999)
    real_label: float = 0.9  # D's target for real images (below 1: label smoothing)
    fake_label: float = 0.0  # D's target for generated images (0.1: label smoothing)
    diffaugment: str = "shift"  # changes D sees: color, translation, cutout, shift; with commas
    ema_decay: float = 0.999  # draw with a moving average of G's weights, of this decay (0: none)
    lr_decay_epochs: int = 0  # epochs after which lr falls to a tenth, again and again (0: never)
    init_from: str = ""  # checkpoint whose weights to start from, instead of random ones
    seed: int = 1  # same seed, same run
    device: str = "auto"  # auto (CUDA or Apple's MPS if there is one), cpu, cuda, cuda:1, mps
    bf16: bool = True  # compute in bfloat16 on GPUs that have it

    # --- output
    out_dir: str = "log_gan"  # each run gets a folder of its own in here: run1, run2, ...
    checkpoint_interval: int = 1  # epochs from one checkpoint to the next
    keep_checkpoints: int = 3  # how many of the newest checkpoints to keep (0: all)
    log_interval: int = 0  # iterations between two looks at the losses (0: 50 on CUDA, else 1)
    tensorboard: bool = False  # write TensorBoard event files too
    resume: str = ""  # run folder to go on with, or "latest" for the newest in out_dir


# The chapter's own training, as --recipe chapter gives it; its public script lets lr fall.
CHAPTER = {
    "horizontal_flip": False, "batch_size": 64, "lr": 0.0002, "lr_d": 0.0, "beta1": 0.5,
    "real_label": 1.0, "fake_label": 0.0, "diffaugment": "", "ema_decay": 0.0, "lr_decay_epochs": 8,
}  # fmt: skip

# How runs were trained whose config.json is from before there were these constants.
OLDER = {"diffaugment": "", "ema_decay": 0.0, "lr_d": 0.0, "lr_decay_epochs": 0}

# What may differ from a run's config.json on resuming; all else would make it another run.
FREE_TO_CHANGE = {"cache_dir", "num_epochs", "device", "bf16", "out_dir", "checkpoint_interval"}
FREE_TO_CHANGE |= {"keep_checkpoints", "log_interval", "tensorboard", "resume"}

D_WINS = (
    "D has been nearly always right for long, so G learns little from it; README.md, Reading the "
    "curves, says what to do."
)


def train_step(real, noise, generator, discriminator, optimizer_g, optimizer_d, config):
    """One iteration: a step of D on a real and a fake batch, then a step of G through the new D.

    real: (N, nc, image_size, image_size) in [-1, 1]; noise: (N, nz, 1, 1).
    Returns the iteration's METRICS as a tensor of five, still on the device.
    """
    half = acceleration.autocast(real.device, config.bf16)

    def loss(logits, label):
        logits = logits.to(real.dtype)  # bfloat16 would be too coarse for a loss
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))

    # (1) D: tell real from fake; two passes, so that BatchNorm sees the two batches apart
    with half:
        fake = augment(generator(noise), config.diffaugment)
        logits_real = discriminator(augment(real, config.diffaugment), logits=True)
        logits_fake = discriminator(fake.detach(), logits=True)
    loss_d = loss(logits_real, config.real_label) + loss(logits_fake, config.fake_label)
    optimizer_d.zero_grad()
    loss_d.backward()
    acceleration.average_gradients(discriminator)
    optimizer_d.step()

    # (2) G: make the updated D take the same fakes for real; D itself is frozen
    with half:
        logits_after = discriminator(fake, logits=True)
    loss_g = loss(logits_after, config.real_label)
    optimizer_g.zero_grad()
    loss_g.backward(inputs=list(generator.parameters()))
    acceleration.average_gradients(generator)
    optimizer_g.step()

    judged = (logits_real, logits_fake, logits_after)
    probabilities = [logits.to(real.dtype).sigmoid().mean() for logits in judged]
    return torch.stack([loss_d, loss_g, *probabilities]).detach()


@torch.no_grad()
def update_ema(ema, generator, share):
    """Let the moving average of the weights (Yazici et al. 2019, arXiv:1806.04498) take over a
    share of the newest ones: a tensor of one number, 1 - decay."""
    for mean, weight in zip(ema.parameters(), generator.parameters()):
        mean.lerp_(weight, share)


def train(config: Config) -> Path:
    """Train as config says, or go on with the run folder config.resume. Returns the run's folder.

    Raises RunError, with a sentence for the user, for bad input and where a loss is not finite.
    SIGINT (Ctrl-C) and SIGTERM finish the iteration, save, and end in SystemExit(130 or 143).
    """
    acceleration.from_rank_0(lambda: check_config(config))
    rank, world_size = acceleration.get_rank(), acceleration.get_world_size()
    device = acceleration.own_device(config.device)
    total_batch = config.batch_size * world_size
    if config.resume:
        run = find_run(config.resume, config.out_dir)
        path, checkpoint = acceleration.from_rank_0(lambda: newest_checkpoint(run))
    elif config.init_from:
        checkpoint = acceleration.from_rank_0(lambda: load_checkpoint(config.init_from))

    # Data: image files -> one array -> batches
    with acceleration.first_on_each_machine():
        config = replace(config, data_dir=find_images(config.data_dir))
        options = config.image_size, config.nc, config.max_images, config.skip_bad_images
        images, fingerprint = load_faces(config.data_dir, config.cache_dir, *options)
    if acceleration.largest(fingerprint) != fingerprint:
        raise RunError(f"{config.data_dir} holds other images here than on another machine.")
    if len(images) < total_batch:
        raise RunError(
            f"{config.data_dir} gives {len(images)} images, fewer than one batch of "
            f"{total_batch}; add images or lower batch_size."
        )
    options = config.batch_size, config.seed, device, config.horizontal_flip
    faces = FaceBatches(images, *options, rank, world_size)

    # Nets
    set_seed(config.seed)
    generator = Generator(config.nz, config.ngf, config.nc, config.image_size)
    discriminator = Discriminator(config.nc, config.ndf, config.image_size)
    for net in (generator, discriminator):
        net.initialize_weights()
        net.to(device, memory_format=torch.channels_last)  # the layout that convolutions prefer
    if config.init_from and not config.resume:
        initial_weights(generator, discriminator, checkpoint, config.init_from)
    ema = deepcopy(generator) if config.ema_decay else None
    ema_share = torch.zeros((), device=device)  # a tensor, so that a captured step sees it change
    fixed_noise = torch.randn(64, config.nz, 1, 1).to(device)  # for the picture of each epoch

    # Optimizers
    optimizer_g = acceleration.fused_adam(generator, config.lr, config.beta1)
    lr_d = config.lr_d or config.lr
    optimizer_d = acceleration.fused_adam(discriminator, lr_d, config.beta1)

    # A run folder of its own, or everything as it was in the run to go on with
    if config.resume:
        try:
            generator.load_state_dict(checkpoint["g_model_state_dict"])
            discriminator.load_state_dict(checkpoint["d_model_state_dict"])
            if ema:
                ema.load_state_dict(checkpoint["g_ema_model_state_dict"])
            acceleration.load_optimizer(optimizer_g, checkpoint["g_optimizer_state_dict"])
            acceleration.load_optimizer(optimizer_d, checkpoint["d_optimizer_state_dict"])
            set_random_state(checkpoint["random_state"])
            step = checkpoint["step"]  # iterations since the run began
            place = *divmod(step, len(faces)), step % len(faces) * total_batch  # in older files
            first_epoch, iteration, images_seen = checkpoint.get("place", place)
            same_images = checkpoint["fingerprint"] == fingerprint
        except (KeyError, ValueError, RuntimeError) as error:
            raise RunError(
                f"training cannot go on from {path}: it lacks optimizer states, or its nets are not "
                "those of config.json; start a new run."
            ) from error
        if not same_images:
            raise RunError(
                f"the images in {config.data_dir} are not those that {run} was trained on; bring "
                "those back or start a new run."
            )
        if first_epoch + (iteration > 0) > config.num_epochs:
            raise RunError(
                f"num_epochs is {config.num_epochs}, but {run} is further already; ask for more."
            )
        if rank == 0:
            drop_later_files(run, step, first_epoch)
    else:
        run = acceleration.from_rank_0(lambda: new_folder(config.out_dir, "run"))
        step = first_epoch = iteration = images_seen = 0
        if rank == 0:
            save_grid(to_images(torch.tensor(images[:64])), run / "real.png")
    if rank == 0:
        saved = {**asdict(replace(config, resume="")), "job": acceleration.job_name()}
        with atomic_write(run / "config.json") as file:
            file.write(json.dumps(saved, indent=2).encode())
        batches = f"{world_size} x {config.batch_size}" if world_size > 1 else config.batch_size
        print(
            f"{'Going on' if step else 'Training'} on {device} with {len(images):,} images of "
            f"{config.data_dir}, {len(faces):,} iterations of {batches} images an epoch; results go "
            f"to {run}",
            flush=True,
        )

    def one_step(real, noise):
        nets = generator, discriminator
        numbers = train_step(real, noise, *nets, optimizer_g, optimizer_d, config)
        if ema:
            update_ema(ema, generator, ema_share)
        return numbers

    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # measure which algorithm is fastest
        one_step = acceleration.CapturedStep(one_step)
    log_interval = config.log_interval or (50 if device.type == "cuda" else 1)

    random = torch.Generator(device)  # of the noise
    board = None
    if config.tensorboard and rank == 0:
        from torch.utils.tensorboard import SummaryWriter  # slow to load

        board = SummaryWriter(run, purge_step=step + 1)
    images_of_epoch = len(faces) * total_batch
    done = first_epoch * images_of_epoch + images_seen
    bar = progress_bar(config.num_epochs * images_of_epoch, done, disable=rank > 0)
    curves_due = 0
    lead, warned = 0.0, False  # how far D(x) is above D(G(z)), averaged over some 200 iterations
    writer = ThreadPoolExecutor(1)  # writes what an epoch gave while the next one trains
    written = writer.submit(int)  # nothing so far
    with bar, board or nullcontext(), writer, catch_signals() as caught:
        for epoch in range(first_epoch, config.num_epochs):
            epoch_done, stop = True, 0
            rows = []  # of metrics.csv, on the device until a block of them is full
            decay = 0.1 ** (epoch // config.lr_decay_epochs) if config.lr_decay_epochs else 1
            for optimizer, lr in ((optimizer_g, config.lr), (optimizer_d, lr_d)):
                optimizer.param_groups[0]["lr"].fill_(lr * decay)
            for real in faces.epoch(epoch, images_seen):
                seed_iteration(random, config.seed, step, rank)
                shape = config.batch_size, config.nz, 1, 1
                noise = torch.randn(shape, device=device, generator=random)
                if ema:  # its beginning is to be forgotten, however short the run
                    ema_share.fill_(max(1 - config.ema_decay, 9 / (10 + step)))
                rows.append(one_step(real, noise))
                step, iteration, images_seen = step + 1, iteration + 1, images_seen + total_batch
                epoch_done = images_seen + total_batch > len(images)
                if len(rows) == log_interval or epoch_done or (caught and world_size == 1):
                    block = torch.stack(rows)
                    rows.clear()
                    acceleration.average([block])
                    block = block.tolist()  # only here the loop waits for the device
                    stop = acceleration.largest(caught[0] if caught else 0)
                    if rank == 0:
                        write_metrics(run, block, epoch, iteration - len(block))
                        loss_d, loss_g, d_x, d_gz_before, d_gz_after = block[-1]
                        bar.desc = (
                            f"epoch {epoch + 1}/{config.num_epochs} Loss_D {loss_d:.2f} "
                            f"Loss_G {loss_g:.2f} D(x) {d_x:.2f} "
                            f"D(G(z)) {d_gz_before:.2f}/{d_gz_after:.2f} "
                        )
                        bar.update(len(block) * total_batch)
                        for _, _, d_x, d_gz_before, _ in block:
                            lead = 0.995 * lead + 0.005 * (d_x - d_gz_before)
                        if lead > 0.95 * (config.real_label - config.fake_label) and not warned:
                            warned = True
                            bar.write(D_WINS)
                    if board:
                        for name, value in zip(METRICS, block[-1]):
                            board.add_scalar(name, value, step)
                if stop:
                    break

            # A picture of what the generator draws by now, and a checkpoint
            for net in (generator, discriminator):
                acceleration.average_statistics(net)
            if epoch_done:
                iteration = images_seen = 0
            checkpoint = {
                "epoch": epoch,
                "step": step,
                "place": (epoch + epoch_done, iteration, images_seen),  # where to go on
                "fingerprint": fingerprint,
                "g_model_state_dict": generator.state_dict(),
                "d_model_state_dict": discriminator.state_dict(),
                "g_optimizer_state_dict": optimizer_g.state_dict(),
                "d_optimizer_state_dict": optimizer_d.state_dict(),
                "random_state": get_random_state(),
            }
            if ema and rank == 0:
                count_statistics(ema, config.nz, config.seed)
                checkpoint["g_ema_model_state_dict"] = ema.state_dict()
            ending = stop or epoch + 1 == config.num_epochs
            if rank == 0:
                pictures = generate(ema or generator, fixed_noise).cpu() if epoch_done else None
                if not (ending or (epoch + 1) % config.checkpoint_interval == 0):
                    checkpoint = None
                written.result()  # raises what went wrong in the epoch before
                written = writer.submit(
                    write_epoch, run, epoch, step, pictures, to_cpu(checkpoint), config, board
                )
                if epoch_done and time.monotonic() > curves_due:
                    save_curves(run / "metrics.csv", run / "loss.png")
                    curves_due = time.monotonic() + 60
            if ending:
                written.result()
            if stop:
                bar.close()
                print(
                    f"Stopped after {step:,} iterations, all of it saved. "
                    f"Go on with: python gan_demo.py --resume {run}"
                )
                sys.exit(128 + stop)

        if rank == 0:
            save_curves(run / "metrics.csv", run / "loss.png")
            pictures = (Image.open(path) for _, path in numbered(run, "epoch_", ".png"))
            save_animation(pictures, run / "generation_animation.gif", milliseconds=500)
    if rank == 0:
        print(f"Done. Draw new faces with: python gan_inference.py --path-checkpoint {run}")
    return run


@torch.no_grad()
def count_statistics(ema, nz, seed):
    """Count BatchNorm's statistics anew, over 256 noises; no training step has run these weights."""
    random = torch.Generator().manual_seed(seed)
    device = next(ema.parameters()).device
    for layer in ema.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # all batches count the same
    ema.train()
    for _ in range(4):
        ema(torch.randn(64, nz, 1, 1, generator=random).to(device))


def initial_weights(generator, discriminator, checkpoint, path):
    """Take over the weights of a checkpoint from path: of its generator the average, if it has one.

    Where it has no discriminator, that stays as it is. Raises RunError where the sizes differ.
    """
    source = load_generator(path, checkpoint)
    try:
        generator.load_state_dict(source.state_dict())
        if is_state_dict(checkpoint.get("d_model_state_dict")):
            discriminator.load_state_dict(checkpoint["d_model_state_dict"])
        else:
            print(f"{path} has no discriminator; this run's starts from random weights.")
    except RuntimeError as error:
        first, *_, last = (layer for layer in source.main if hasattr(layer, "in_channels"))
        raise RunError(
            f"the nets of init_from {path} have other sizes than this run's (its generator: nz "
            f"{first.in_channels}, ngf {last.in_channels}, nc {last.out_channels}); give nz, ngf, "
            "ndf, nc and image_size as it has them."
        ) from error


def write_epoch(run, epoch, step, pictures, checkpoint, config, board):
    """Write an epoch's pictures of the fixed noise and its checkpoint, each unless it is None.

    Without pictures, the checkpoint is that of an interrupted epoch. Raises RunError where a weight
    is not finite; then no checkpoint is written.
    """
    if checkpoint and (name := not_finite(checkpoint)):
        raise diverged(run, f"after iteration {step} weights are not finite ({name})")
    if pictures is None:
        save_checkpoint(checkpoint, run / "checkpoint_interrupted.pkl")
        return
    grid = save_grid(pictures, run / f"epoch_{epoch:03d}.png")
    if board:
        board.add_image("fixed_noise", grid, step)
    if checkpoint:
        save_checkpoint(checkpoint, run / f"checkpoint_{epoch}_epoch.pkl")
        remove_older_checkpoints(run, config.keep_checkpoints)


def check_config(config):
    """Raise RunError for a constant out of its range, one that a resumed run forbids to change,
    or an output folder that cannot be written."""
    rules = {
        "max_images": (config.max_images >= 0, "0 (all) or more"),
        "image_size": (config.image_size in IMAGE_SIZES, "32, 64, 128 or 256"),
        "nc": (config.nc in (1, 3), "1 (gray) or 3 (RGB)"),
        "nz": (config.nz >= 1, "1 or more"),
        "ngf": (config.ngf >= 1, "1 or more"),
        "ndf": (config.ndf >= 1, "1 or more"),
        "num_epochs": (config.num_epochs >= 1, "1 or more"),
        "batch_size": (config.batch_size >= 1, "1 or more"),
        "lr": (0 < config.lr <= 1, "above 0 and at most 1"),
        "lr_d": (0 <= config.lr_d <= 1, "0 (lr) or more, and at most 1"),
        "beta1": (0 <= config.beta1 < 1, "at least 0 and below 1"),
        "real_label": (0 <= config.real_label <= 1, "from 0 to 1"),
        "fake_label": (0 <= config.fake_label <= 1, "from 0 to 1"),
        "diffaugment": (
            set(config.diffaugment.split(",")) <= {"", *CHANGES},
            f"empty, or of {', '.join(CHANGES)} with commas between",
        ),
        "ema_decay": (0 <= config.ema_decay < 1, "at least 0 and below 1"),
        "lr_decay_epochs": (config.lr_decay_epochs >= 0, "0 (never) or more"),
        "seed": (0 <= config.seed < 2**32, "from 0 to 2**32 - 1"),
        "checkpoint_interval": (config.checkpoint_interval >= 1, "1 or more"),
        "keep_checkpoints": (config.keep_checkpoints >= 0, "0 (all) or more"),
        "log_interval": (config.log_interval >= 0, "0 (by the device) or more"),
    }
    for name, (holds, expected) in rules.items():
        if not holds:
            raise RunError(f"{name} is {getattr(config, name)}; it must be {expected}.")
    if config.resume:
        saved = asdict(saved_config(config.resume, config.out_dir))
        for name, asked in asdict(replace(config, data_dir=find_images(config.data_dir))).items():
            if name not in FREE_TO_CHANGE and asked != saved[name]:
                raise RunError(
                    f"{name} is {asked}, but {config.resume} was trained with {saved[name]}; "
                    "leave it as it was or start a new run."
                )
    folder = find_run(config.resume, config.out_dir) if config.resume else Path(config.out_dir)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def find_run(resume, out_dir):
    """The folder of the run to go on with: resume, or the newest in out_dir if that is "latest"."""
    if resume != "latest":
        return Path(resume)
    runs = numbered(out_dir, "run")
    if not runs:
        raise RunError(f"{out_dir} has no run to go on with; start one without --resume.")
    return runs[-1][1]


def saved_config(resume, out_dir=Config.out_dir):
    """The Config of a run to go on with: its config.json, and resume set to the run's folder.

    In a notebook: train(replace(saved_config("latest"), num_epochs=40)). Raises RunError where
    there is no such run.
    """
    run = find_run(resume, out_dir)
    try:
        saved = json.loads((run / "config.json").read_text())
        known = {field.name: saved[field.name] for field in fields(Config) if field.name in saved}
        return Config(**OLDER | known | {"resume": str(run)})
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"{run} is no run to go on with: its config.json cannot be read ({error})."
        ) from error


def own_run(out_dir):
    """The newest run folder of this torchrun job that has a checkpoint; "" if there is none."""
    for _, run in reversed(numbered(out_dir, "run")):
        if checkpoint_paths(run):
            saved = json.loads((run / "config.json").read_text())
            if saved.get("job") == acceleration.job_name():
                return str(run)
    return ""


@dataclass
class Call:
    """What a command line says: the constants, on top of a recipe's."""

    config: tyro.conf.OmitArgPrefixes[Config]
    recipe: Literal["default", "chapter"] = "default"  # chapter: train as the chapter does


def config_from_flags(restarted):
    """The constants with this call's flags; for a run to go on with, flags on its config.json."""
    call = tyro.cli(Call, description=Config.__doc__)
    resume = call.config.resume or (own_run(call.config.out_dir) if restarted else "")
    config = saved_config(resume, call.config.out_dir) if resume else Config()
    if call.recipe == "chapter":
        config = replace(config, **CHAPTER)
    call = tyro.cli(Call, default=Call(config, call.recipe), description=Config.__doc__)
    return replace(call.config, resume=config.resume)


def main():
    with acceleration.joined_processes() as restarted:  # if torchrun has started several
        train(acceleration.from_rank_0(lambda: config_from_flags(restarted)))


if __name__ == "__main__":
    run_as_script(main)
