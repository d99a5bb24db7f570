"""Draw faces with a trained DCGAN.

python gan_inference.py                                       # with the newest of your own runs
python gan_inference.py --path-checkpoint netG_epoch_24.pth   # or any other DCGAN checkpoint
python gan_inference.py --walk 7                              # along one latent dimension
python gan_inference.py --interpolate                         # from face to face
python gan_inference.py --save-images faces --num-img 50000   # one file each
python gan_inference.py --help                                # all constants below are also flags
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from PIL import Image
from tqdm import tqdm

from common_tools import (
    RunError,
    checkpoint_paths,
    choose_device,
    generate,
    load_checkpoint,
    new_folder,
    newest_checkpoint,
    numbered,
    remove_module,  # noqa: F401  readers import it from here
    run_as_script,
    save_animation,
    save_grid,
    to_pixels,
    writing,
)
from dcgan import Generator


@dataclass
class Config:
    """Draw faces. Every constant can be edited in gan_inference.py or given as a flag."""

    path_checkpoint: str = ""  # file or run folder; empty: your newest run, else released weights
    raw: bool = False  # the generator itself, even if the checkpoint has an average of its weights
    device: str = "auto"  # auto (CUDA or Apple's MPS if there is one), cpu, cuda, cuda:1, mps
    seed: int = 1  # same seed, same faces
    num_img: int = 64  # how many faces to draw

    # --- what to draw: all faces in one picture, and ...
    walk: int | None = None  # z_idx, 0 to nz - 1: one face, this latent dimension from -3 to 3
    interpolate: bool = False  # a smooth loop through the first 8 faces
    save_images: str = ""  # a new folder: each face as a PNG file of its own, and nothing else

    # --- where to
    out_dir: str = "samples"  # each call gets a folder of its own in here: sample1, sample2, ...
    show: bool = False  # open the pictures in a window too


RUNS, RELEASED = "log_gan", Path(__file__).parent / "checkpoints"
BLOCK = 64  # noises drawn at a time, so that a seed's n-th face is the same for any num_img


def draw_noise(count, nz, seed):
    """Yield noise (64, nz, 1, 1) until there is enough for count faces; from the CPU, since other
    devices have other random numbers."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(0, count, BLOCK):
        yield torch.randn(BLOCK, nz, 1, 1, generator=random)


def latent_walk(noise, z_idx, steps=61):
    """Move one coordinate of one noise (1, nz, 1, 1) from -3 to 3; gives (steps, nz, 1, 1)."""
    walk = noise.repeat(steps, 1, 1, 1)
    walk[:, z_idx, 0, 0] = torch.linspace(-3, 3, steps)
    return walk


def latent_loop(noise, steps=16):
    """Go from each noise (N, nz, 1, 1) to the next and from the last to the first, on great arcs.

    Spherical interpolation (Shoemake 1985), since noise of many dimensions lies near a sphere: the
    straight way would leave it. Gives (N * steps, nz, 1, 1).
    """
    start, end = noise.flatten(1), noise.roll(-1, dims=0).flatten(1)
    cosine = torch.nn.functional.cosine_similarity(start, end)[:, None, None]
    angle = torch.acos(cosine.clamp(-0.9999, 0.9999))
    t = torch.arange(steps)[None, :, None] / steps
    arc = torch.sin((1 - t) * angle) * start[:, None] + torch.sin(t * angle) * end[:, None]
    return (arc / torch.sin(angle)).reshape(-1, noise.shape[1], 1, 1)


def to_pictures(images, side=None):
    """Images (N, nc, H, W) in [-1, 1] -> PIL images, resized to side x side pixels if it is set."""
    for pixels in to_pixels(images).permute(0, 2, 3, 1):
        picture = Image.fromarray(pixels.squeeze(-1).numpy())
        yield picture.resize((side, side), Image.Resampling.BICUBIC) if side else picture


def sample(config: Config) -> list[Path]:
    """Draw what config asks for. Returns the paths of the pictures, or of the folder of them.

    Raises RunError, with a sentence for the user, for bad input.
    """
    if config.num_img < 1:
        raise RunError(f"num_img is {config.num_img}; it must be 1 or more.")
    if not 0 <= config.seed < 2**32:
        raise RunError(f"seed is {config.seed}; it must be from 0 to 2**32 - 1.")
    device = choose_device(config.device)

    # The generator: its sizes are read off the weights
    path, checkpoint = find_checkpoint(config.path_checkpoint)
    generator = load_generator(path, checkpoint, config.raw).to(device)
    nz = generator.main[0].in_channels
    if config.walk is not None and not 0 <= config.walk < nz:
        raise RunError(f"walk is {config.walk}; this z_idx must be from 0 to {nz - 1} for {path}.")
    print(f"Drawing on {device} with {path}")

    # Noise -> faces -> files
    def draw(noise):
        blocks = [generate(generator, block.to(device)).cpu() for block in noise.split(BLOCK)]
        return torch.cat(blocks)

    blocks = draw_noise(config.num_img, nz, config.seed)
    if config.save_images:
        written = [save_faces(map(draw, blocks), config.num_img, config.save_images)]
    else:
        folder = new_folder(config.out_dir, "sample")
        noise = torch.cat(list(blocks))
        written = [folder / "faces.png"]
        save_grid(draw(noise)[: config.num_img], written[-1])
        if config.walk is not None:
            faces = draw(latent_walk(noise[:1], config.walk))
            written += [folder / "walk.png", folder / "walk.gif"]
            save_grid(faces[::5], written[-2], per_row=len(faces))
            save_animation(to_pictures(faces, side=256), written[-1], milliseconds=50)
        if config.interpolate:
            faces = draw(latent_loop(noise[:8]))
            written += [folder / "interpolation.gif"]
            save_animation(to_pictures(faces, side=256), written[-1], milliseconds=50)
        if config.show:
            for picture in written:
                Image.open(picture).show()
    print(*written, sep="\n")
    return written


def find_checkpoint(path):
    """The (path, checkpoint) of a file or a run folder; if path is empty, of the newest there is.

    That is the one of the newest run that has one, else the released weights. Raises RunError
    where there is none.
    """
    if path:
        return newest_checkpoint(path) if Path(path).is_dir() else (path, load_checkpoint(path))
    for _, run in reversed(numbered(RUNS, "run")):
        if checkpoint_paths(run):
            return newest_checkpoint(run)
    for released in sorted(RELEASED.glob("*.pkl")):
        return released, load_checkpoint(released)
    raise RunError(
        f"neither a run in {RUNS} nor {RELEASED.name} has a checkpoint; train one with python "
        "gan_demo.py, or name a file with --path-checkpoint."
    )


def load_generator(path, checkpoint, raw=False):
    """The Generator of a checkpoint from path: the average of its weights, if it has one and not raw.

    Raises RunError where its weights are not of one.
    """
    own = checkpoint["g_model_state_dict"]
    try:
        return Generator.from_state_dict(
            own if raw else checkpoint.get("g_ema_model_state_dict", own)
        )
    except ValueError as error:
        raise RunError(f"{path} holds no DCGAN generator: {error}.") from error


def save_faces(blocks, count, folder):
    """Save the first count images of blocks (n, nc, H, W) as PNG files, one block in memory.

    Returns the folder. Raises RunError where it has files already or cannot be written.
    """
    folder = Path(folder)

    def save(number, picture):
        picture.save(folder / f"{number:06d}.png", compress_level=1)  # 3 % larger, 30 % sooner

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
