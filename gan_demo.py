"""Train a DCGAN to draw faces (Radford, Metz and Chintala 2016, arXiv:1511.06434).

python gan_demo.py                                        # CelebA if it is there, else drawn faces
python gan_demo.py --data-dir my_images.zip --num-epochs 50
python gan_demo.py --resume latest                        # go on with an interrupted run
python gan_demo.py --help                                 # every constant below is also a flag
"""

import json
import os
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from torch import optim
from torch.utils.data import DataLoader

from common_tools import (
    METRICS,
    RunError,
    atomic_write,
    catch_signals,
    choose_device,
    drop_later_files,
    generate,
    get_random_state,
    leave_signals_to_parent,
    new_folder,
    newest_checkpoint,
    numbered,
    progress_bar,
    remove_older_checkpoints,
    run_as_script,
    save_animation,
    save_checkpoint,
    save_curves,
    save_grid,
    set_random_state,
    set_seed,
    write_metrics,
    writing,
)
from dcgan import IMAGE_SIZES, Discriminator, Generator
from my_dataset import EpochOrder, find_images, load_faces


@dataclass
class Config:
    """Train a DCGAN. Every constant can be edited in gan_demo.py or given as a flag."""

    # --- data
    data_dir: str = "data/img_align_celeba"  # folder or .zip of images
    max_images: int = 0  # train on the first so many images only (0: all)
    skip_bad_images: bool = False  # go on without the images that cannot be read
    num_workers: int = 2  # processes that read images (0: read in the training process)

    # --- images and nets
    image_size: int = 64  # pixels a side: 32, 64, 128 or 256
    nc: int = 3  # channels of an image: 3 is RGB, 1 is gray
    nz: int = 100  # length of the latent vector
    ngf: int = 64  # width of the generator (128 in the chapter's good run)
    ndf: int = 64  # width of the discriminator (128 in the chapter's good run)

    # --- training
    num_epochs: int = 20  # times through all the images
    batch_size: int = 64  # images in one iteration
    lr: float = 0.0002  # learning rate of both Adam optimizers
    beta1: float = 0.5  # Adam's first beta (the second is 0.999)
    real_label: float = 1.0  # D's target for real images (0.9: label smoothing)
    fake_label: float = 0.0  # D's target for generated images (0.1: label smoothing)
    seed: int = 1  # same seed, same run
    device: str = "auto"  # auto (CUDA or Apple's MPS if there is one), cpu, cuda, cuda:1, mps

    # --- output
    out_dir: str = "log_gan"  # each run gets a folder of its own in here: run1, run2, ...
    checkpoint_interval: int = 1  # epochs from one checkpoint to the next
    keep_checkpoints: int = 3  # how many of the newest checkpoints to keep (0: all)
    log_interval: int = 10  # iterations from one block of rows in metrics.csv to the next
    tensorboard: bool = False  # write TensorBoard event files too
    resume: str = ""  # run folder to go on with, or "latest" for the newest in out_dir


# What may differ from a run's config.json on resuming; all else would make it another run.
FREE_TO_CHANGE = {"num_epochs", "num_workers", "device", "out_dir", "checkpoint_interval"}
FREE_TO_CHANGE |= {"keep_checkpoints", "log_interval", "tensorboard", "resume"}


def train_step(real, noise, generator, discriminator, optimizer_g, optimizer_d, config):
    """One iteration: a step of D on a real and a fake batch, then a step of G through the new D.

    real: (N, nc, image_size, image_size) in [-1, 1]; noise: (N, nz, 1, 1).
    Returns the iteration's METRICS as a tensor of five, still on the device.
    """

    def loss(logits, label):
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))

    # (1) D: tell real from fake; two passes, so that BatchNorm sees the two batches apart
    fake = generator(noise)
    logits_real = discriminator(real, logits=True)
    logits_fake = discriminator(fake.detach(), logits=True)
    loss_d = loss(logits_real, config.real_label) + loss(logits_fake, config.fake_label)
    optimizer_d.zero_grad()
    loss_d.backward()
    optimizer_d.step()

    # (2) G: make the updated D take the same fakes for real
    logits_after = discriminator(fake, logits=True)
    loss_g = loss(logits_after, config.real_label)
    optimizer_g.zero_grad()
    loss_g.backward()
    optimizer_g.step()

    probabilities = [logits.sigmoid().mean() for logits in (logits_real, logits_fake, logits_after)]
    return torch.stack([loss_d, loss_g, *probabilities]).detach()


def train(config: Config) -> Path:
    """Train as config says, or go on with the run folder config.resume. Returns the run's folder.

    Raises RunError, with a sentence for the user, for bad input and where a loss is not finite.
    SIGINT (Ctrl-C) and SIGTERM finish the iteration, save, and end in SystemExit(130 or 143).
    """
    check_config(config)
    device = choose_device(config.device)
    if config.resume:
        run = find_run(config.resume, config.out_dir)
        path, checkpoint = newest_checkpoint(run)

    # Data: image files -> dataset -> batches
    config = replace(config, data_dir=find_images(config.data_dir))
    dataset = load_faces(
        config.data_dir, config.image_size, config.nc, config.max_images, config.skip_bad_images
    )
    if len(dataset) < config.batch_size:
        raise RunError(
            f"{config.data_dir} gives {len(dataset)} images, fewer than one batch of "
            f"{config.batch_size}; add images or lower batch_size."
        )
    fingerprint = dataset.fingerprint()
    order = EpochOrder(len(dataset), config.batch_size, config.seed)
    num_workers = min(config.num_workers, os.cpu_count() or 1)
    loader = DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=num_workers,
        worker_init_fn=leave_signals_to_parent,
        persistent_workers=num_workers > 0,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # its own, so that only the noise draws from the global one
    )

    # Nets
    set_seed(config.seed)
    generator = Generator(config.nz, config.ngf, config.nc, config.image_size)
    discriminator = Discriminator(config.nc, config.ndf, config.image_size)
    for net in (generator, discriminator):
        net.initialize_weights()
        net.to(device)
    fixed_noise = torch.randn(64, config.nz, 1, 1).to(device)  # for the picture of each epoch

    # Optimizers
    betas = (config.beta1, 0.999)
    optimizer_g = optim.Adam(generator.parameters(), lr=config.lr, betas=betas)
    optimizer_d = optim.Adam(discriminator.parameters(), lr=config.lr, betas=betas)

    # A run folder of its own, or everything as it was in the run to go on with
    if config.resume:
        try:
            generator.load_state_dict(checkpoint["g_model_state_dict"])
            discriminator.load_state_dict(checkpoint["d_model_state_dict"])
            optimizer_g.load_state_dict(checkpoint["g_optimizer_state_dict"])
            optimizer_d.load_state_dict(checkpoint["d_optimizer_state_dict"])
            set_random_state(checkpoint["random_state"])
            step = checkpoint["step"]  # iterations since the run began
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
        if step > config.num_epochs * len(order):
            raise RunError(
                f"num_epochs is {config.num_epochs}, but {run} is further already; ask for more."
            )
        drop_later_files(run, step, len(order))
    else:
        run = new_folder(config.out_dir, "run")
        step = 0
        save_grid(torch.stack([dataset[i] for i in range(min(64, len(dataset)))]), run / "real.png")
    with atomic_write(run / "config.json") as file:
        file.write(json.dumps(asdict(replace(config, resume="")), indent=2).encode())
    print(
        f"{'Going on' if step else 'Training'} on {device} with {len(dataset):,} images of "
        f"{config.data_dir}, {len(order):,} iterations an epoch; results go to {run}",
        flush=True,
    )

    board = None
    if config.tensorboard:
        from torch.utils.tensorboard import SummaryWriter  # slow to load

        board = SummaryWriter(run, purge_step=step + 1)
    bar = progress_bar(config.num_epochs * len(order) * config.batch_size, step * config.batch_size)
    with bar, board or nullcontext(), catch_signals() as caught:
        for epoch in range(step // len(order), config.num_epochs):
            order.start(epoch, step % len(order))
            rows = []  # of metrics.csv, on the device until a block of them is full
            for real in loader:
                real = real.to(device, non_blocking=True)
                noise = torch.randn(config.batch_size, config.nz, 1, 1).to(device)
                row = train_step(
                    real, noise, generator, discriminator, optimizer_g, optimizer_d, config
                )
                rows.append(row)
                step += 1
                epoch_done = step % len(order) == 0
                stop = list(caught)  # looked at once an iteration, so that all below agree
                if len(rows) == config.log_interval or epoch_done or stop:
                    block = torch.stack(rows).tolist()
                    rows.clear()
                    write_metrics(run, block, step - len(block), len(order))
                    loss_d, loss_g, d_x, d_gz_before, d_gz_after = block[-1]
                    bar.desc = (
                        f"epoch {epoch + 1}/{config.num_epochs} Loss_D {loss_d:.2f} "
                        f"Loss_G {loss_g:.2f} D(x) {d_x:.2f} "
                        f"D(G(z)) {d_gz_before:.2f}/{d_gz_after:.2f} "
                    )
                    bar.update(len(block) * config.batch_size)
                    if board:
                        for name, value in zip(METRICS, block[-1]):
                            board.add_scalar(name, value, step)
                if stop:
                    break

            # A picture of what the generator draws by now, and a checkpoint
            checkpoint = {
                "epoch": epoch,
                "step": step,
                "fingerprint": fingerprint,
                "g_model_state_dict": generator.state_dict(),
                "d_model_state_dict": discriminator.state_dict(),
                "g_optimizer_state_dict": optimizer_g.state_dict(),
                "d_optimizer_state_dict": optimizer_d.state_dict(),
                "random_state": get_random_state(),
            }
            if epoch_done:
                grid = save_grid(generate(generator, fixed_noise), run / f"epoch_{epoch:03d}.png")
                save_curves(run / "metrics.csv", run / "loss.png")
                if board:
                    board.add_image("fixed_noise", grid, step)
                last = epoch + 1 == config.num_epochs
                if (epoch + 1) % config.checkpoint_interval == 0 or last or stop:
                    save_checkpoint(checkpoint, run / f"checkpoint_{epoch}_epoch.pkl")
                    remove_older_checkpoints(run, config.keep_checkpoints)
            else:
                save_checkpoint(checkpoint, run / "checkpoint_interrupted.pkl")
            if stop:
                bar.close()
                print(
                    f"Stopped after {step:,} iterations, all of it saved. "
                    f"Go on with: python gan_demo.py --resume {run}"
                )
                sys.exit(128 + stop[0])

    pictures = (Image.open(path) for _, path in numbered(run, "epoch_", ".png"))
    save_animation(pictures, run / "generation_animation.gif", milliseconds=500)
    print(f"Done. Draw new faces with: python gan_inference.py --path-checkpoint {run}")
    return run


def check_config(config):
    """Raise RunError for a constant out of its range, one that a resumed run forbids to change,
    or an output folder that cannot be written."""
    rules = {
        "max_images": (config.max_images >= 0, "0 (all) or more"),
        "num_workers": (config.num_workers >= 0, "0 or more"),
        "image_size": (config.image_size in IMAGE_SIZES, "32, 64, 128 or 256"),
        "nc": (config.nc in (1, 3), "1 (gray) or 3 (RGB)"),
        "nz": (config.nz >= 1, "1 or more"),
        "ngf": (config.ngf >= 1, "1 or more"),
        "ndf": (config.ndf >= 1, "1 or more"),
        "num_epochs": (config.num_epochs >= 1, "1 or more"),
        "batch_size": (config.batch_size >= 1, "1 or more"),
        "lr": (0 < config.lr <= 1, "above 0 and at most 1"),
        "beta1": (0 <= config.beta1 < 1, "at least 0 and below 1"),
        "real_label": (0 <= config.real_label <= 1, "from 0 to 1"),
        "fake_label": (0 <= config.fake_label <= 1, "from 0 to 1"),
        "seed": (0 <= config.seed < 2**32, "from 0 to 2**32 - 1"),
        "checkpoint_interval": (config.checkpoint_interval >= 1, "1 or more"),
        "keep_checkpoints": (config.keep_checkpoints >= 0, "0 (all) or more"),
        "log_interval": (config.log_interval >= 1, "1 or more"),
    }
    for name, (holds, expected) in rules.items():
        if not holds:
            raise RunError(f"{name} is {getattr(config, name)}; it must be {expected}.")
    if config.resume:
        saved = asdict(saved_config(config.resume, config.out_dir))
        for name, asked in asdict(config).items():
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
        return Config(**known | {"resume": str(run)})
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"{run} is no run to go on with: its config.json cannot be read ({error})."
        ) from error


def main():
    config = tyro.cli(Config)
    if config.resume:  # the run's config.json takes the place of the defaults
        saved = saved_config(config.resume, config.out_dir)
        config = replace(tyro.cli(Config, default=saved), resume=saved.resume)
    train(config)


if __name__ == "__main__":
    run_as_script(main)
