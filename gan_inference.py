"""Draw faces with a trained DCGAN.

python gan_inference.py                                       # with the newest of your own runs
python gan_inference.py --path-checkpoint netG_epoch_24.pth   # or any other DCGAN checkpoint
python gan_inference.py --walk 7                              # along one latent dimension
python gan_inference.py --interpolate                         # from face to face
python gan_inference.py --save-images faces --num-img 50000   # one file each
python gan_inference.py --help                                # all constants below are also flags
"""

import signal

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
import tyro
from PIL import Image
from tqdm import tqdm

from common_tools import RunError, choose_device, remove_module, run_as_script
from machinery.constants import Count, Place, Seed, check_ranges
from machinery.files import new_folder, writing
from machinery.pictures import save_animation, save_grid, to_pictures
from sampling import (
    BLOCK,
    draw_noise,
    find_checkpoint,
    generate,
    latent_loop,
    latent_walk,
    load_generator,
)

PAGE = 4 * BLOCK  # faces of a page, 8 x 32

__all__ = ["Config", "latent_loop", "latent_walk", "remove_module", "sample"]


@dataclass
class Config:
    """Draw faces. Every constant can be edited in gan_inference.py or given as a flag."""

    path_checkpoint: str = ""  # file or folder; empty: your newest run, else released weights
    raw: bool = False  # the generator itself, even if the checkpoint has an average of its weights
    device: str = "auto"  # auto (CUDA or Apple's MPS if there is one), cpu, cuda, cuda:1, mps
    seed: Seed = 1  # same seed, same faces
    num_img: Count = 64  # how many faces to draw

    # --- what to draw: all faces in one picture, and ...
    walk: int | None = None  # z_idx, 0 to nz - 1: one face, this latent dimension from -3 to 3
    interpolate: bool = False  # a smooth loop through the first 8 faces
    save_images: str = ""  # a new folder: each face as a PNG file of its own, and nothing else

    # --- where to
    out_dir: Place = "samples"  # each call gets a folder of its own in here: sample1, sample2, ...
    show: bool = False  # open the pictures in a window too


def sample(config: Config) -> list[Path]:
    """Draw what config asks for. Returns the paths of the pictures, or of the folder of them.

    Raises RunError, with a sentence for the user, for bad input.
    """
    check_ranges(config)
    device = choose_device(config.device)

    # The generator: its sizes are read off the weights
    path, checkpoint = find_checkpoint(config.path_checkpoint)
    generator = load_generator(path, checkpoint, config.raw).to(device)
    nz = generator.main[0].in_channels
    if config.walk is not None and not 0 <= config.walk < nz:
        raise RunError(f"walk is {config.walk}; this z_idx must be from 0 to {nz - 1} for {path}.")
    print(f"Drawing on {device} with {path}")

    # Noise -> faces -> files
    if config.save_images:
        blocks = draw_noise(config.num_img, nz, config.seed)
        faces = (draw(generator, block) for block in blocks)
        written = [save_faces(faces, config.num_img, config.save_images)]
    else:
        folder = new_folder(config.out_dir, "sample")
        written = save_pictures(generator, nz, config, folder)
        if config.show:
            for picture in written:
                Image.open(picture).show()
    print(*written, sep="\n")
    return written


def draw(generator, noise):
    """Noise (N, nz, 1, 1) -> images (N, nc, H, W) on the CPU, a block at a time."""
    device = next(generator.parameters()).device
    return torch.cat([generate(generator, block.to(device)).cpu() for block in noise.split(BLOCK)])


def save_pictures(generator, nz, config, folder):
    """Draw what config asks for, by its seed, num_img, walk and interpolate, into a folder.

    generator: a net from noise (N, nz, 1, 1) to images (N, nc, H, W) in [-1, 1]. Returns the paths.
    """
    blocks = draw_noise(config.num_img, nz, config.seed)
    noise = next(draw_noise(1, nz, config.seed))  # of the first faces
    written = save_pages((draw(generator, block) for block in blocks), config.num_img, folder)
    if config.walk is not None:
        faces = draw(generator, latent_walk(noise[:1], config.walk))
        written += [folder / "walk.png", folder / "walk.gif"]
        save_grid(faces[::5], written[-2], per_row=len(faces))
        save_animation(to_pictures(faces, side=256), written[-1], milliseconds=50)
    if config.interpolate:
        faces = draw(generator, latent_loop(noise[:8]))
        written += [folder / "interpolation.gif"]
        save_animation(to_pictures(faces, side=256), written[-1], milliseconds=50)
    return written


def save_pages(blocks, count, folder):
    """Save the first count images of blocks (n, nc, H, W) as one picture, or as pages if they are
    more than two; one page in memory. Returns their paths."""
    pages = -(-count // PAGE)
    if pages <= 2:
        save_grid(torch.cat([*blocks])[:count], folder / "faces.png")
        return [folder / "faces.png"]
    paths = [folder / f"faces_{number}.png" for number in range(1, pages + 1)]
    for first, path in zip(range(0, count, PAGE), tqdm(paths, unit=" pages", disable=None)):
        page = torch.cat([*islice(blocks, PAGE // BLOCK)])
        save_grid(page[: count - first], path)
    return paths


def save_faces(blocks, count, folder):
    """Save the first count images of blocks (n, nc, H, W) as PNG files, one block in memory.

    Returns the folder. Raises RunError where it has files already or cannot be written.
    """
    folder = Path(folder)

    def save(number, picture):
        path = folder / f"{number:06d}.png"
        try:
            with open(path, "xb") as file:
                picture.save(file, format="PNG", compress_level=1)  # 3 % larger, 30 % sooner
        except FileExistsError:  # another's
            raise
        except OSError:
            path.unlink(missing_ok=True)
            raise

    bar = tqdm(total=count, unit=" images", disable=None)
    with writing(folder), bar, ThreadPoolExecutor(os.cpu_count()) as encoders:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RunError(f"save_images {folder} has files in it already; name a new folder.")
        saving = []
        for first, block in zip(range(0, count, BLOCK), blocks):
            faces = zip(range(first, count), to_pictures(block))
            submitted = [encoders.submit(save, *face) for face in faces]
            for face in saving:  # those of the block before, while the device draws the next
                face.result()
            bar.update(len(saving))
            saving = submitted
        for face in saving:
            face.result()
        bar.update(len(saving))
    return folder


if __name__ == "__main__":
    run_as_script(lambda: sample(tyro.cli(Config)))
