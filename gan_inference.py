"""Draw faces with a trained DCGAN.

python gan_inference.py                                   # with the newest run in log_gan
python gan_inference.py --checkpoint netG_epoch_24.pth    # any DCGAN checkpoint, or a run folder
python gan_inference.py --z-idx 7                         # also walk along one latent dimension
python gan_inference.py --help                            # every constant below is also a flag
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from common_tools import (
    RunError,
    choose_device,
    generate,
    load_checkpoint,
    new_folder,
    numbered,
    remove_module,
    run_as_script,
    save_grid,
    set_seed,
)
from dcgan import Generator


@dataclass
class Config:
    """Draw faces. Every constant can be edited in gan_inference.py or given as a flag."""

    checkpoint: str = ""  # file or run folder; empty: the newest run in log_gan
    out_dir: str = "samples"  # each call gets a folder of its own in here: sample1, sample2, ...
    num_images: int = 64  # faces in the picture
    seed: int = 1  # same seed, same faces
    z_idx: int | None = None  # latent dimension to walk along, 0 to nz - 1
    z_step: float = 0.1  # how far one step of the walk goes (the chapter's 0.01 hardly shows)
    device: str = "auto"  # auto (CUDA if there is one, else the CPU), cpu, cuda, cuda:1, ...


def latent_walk(noise, z_idx, step, num_steps):
    """Move one coordinate of one noise (1, nz, 1, 1) in equal steps, its own value in the middle.

    Returns (num_steps, nz, 1, 1); all other coordinates stay as they are.
    """
    walk = noise.repeat(num_steps, 1, 1, 1)
    walk[:, z_idx, 0, 0] += step * (torch.arange(num_steps) - num_steps // 2)
    return walk


def sample(config: Config) -> Path:
    """Draw config.num_images faces, and the walk if z_idx is set. Returns the folder they are in.

    Raises RunError, with a sentence for the user, for bad input.
    """
    if config.num_images < 1:
        raise RunError(f"num_images is {config.num_images}; it must be 1 or more.")
    device = choose_device(config.device)
    path = config.checkpoint or newest_run("log_gan")
    state_dict = remove_module(load_checkpoint(path)["g_model_state_dict"])
    try:
        generator = Generator.from_state_dict(state_dict)
    except ValueError as error:
        raise RunError(f"{path} holds no DCGAN generator: {error}.") from error
    nz = generator.main[0].in_channels
    if config.z_idx is not None and not 0 <= config.z_idx < nz:
        raise RunError(f"z_idx is {config.z_idx}; it must be from 0 to {nz - 1}.")

    set_seed(config.seed)
    generator.to(device)
    noise = torch.randn(config.num_images, nz, 1, 1)  # drawn on the CPU: same faces on any device
    folder = new_folder(config.out_dir, "sample")
    save_grid(generate(generator, noise.to(device)), folder / "faces.png")
    print(f"{folder / 'faces.png'}: {config.num_images} faces from {path}")
    if config.z_idx is not None:
        walk = latent_walk(noise[:1], config.z_idx, config.z_step, num_steps=64)
        save_grid(generate(generator, walk.to(device)), folder / "walk.png")
        print(f"{folder / 'walk.png'}: the first, moved along latent dimension {config.z_idx}")
    return folder


def newest_run(out_dir):
    """The newest run folder in out_dir. Raises RunError if there is none."""
    runs = numbered(out_dir, "run")
    if not runs:
        raise RunError(
            f"no checkpoint is named and {out_dir} has no run; train one with python gan_demo.py, "
            "or name a file with --checkpoint."
        )
    return runs[-1][1]


if __name__ == "__main__":
    run_as_script(lambda: sample(tyro.cli(Config)))
