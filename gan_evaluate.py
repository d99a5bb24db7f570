"""Measure how close a DCGAN's faces are to real ones.

python gan_evaluate.py                                          # each checkpoint of your newest run
python gan_evaluate.py --path-checkpoint netG_epoch_24.pth      # or any other DCGAN checkpoint
python gan_evaluate.py --inception                              # FID, KID, precision, recall too
python gan_evaluate.py --help                                   # all constants below are also flags
"""

import signal

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from tqdm import tqdm

from common_tools import RunError, choose_device, run_as_script
from machinery.batches import to_images
from machinery.checkpoints import checkpoint_paths, load_file
from machinery.constants import Place, Range, Seed, check_ranges
from machinery.features import feature_figures, usable_nets
from machinery.figures import contrast, descriptors, nearest, print_table, swd
from machinery.files import new_folder
from machinery.pictures import save_grid, to_pixels
from my_dataset import CELEBA_DIR, find_images, load_faces
from sampling import draw_noise, find_place, generate, load_generator

Enough = Annotated[int, Range("8 or more", lambda count: count >= 8)]


@dataclass
class Config:
    """Measure faces. Every constant can be edited in gan_evaluate.py or given as a flag."""

    path_checkpoint: str = ""  # file or run folder (each of its checkpoints); empty: newest run
    data_dir: str = ""  # folder or .zip of real images; empty: those that the run was trained on
    skip_bad_images: bool = False  # go on without the images that cannot be read
    num_img: Enough = 2000  # images of each kind (fewer if there are not twice as many real ones)
    inception: bool = False  # FID, KID, precision and recall too; weights are downloaded once
    inception_weights: str = ""  # file of Inception's (FID, KID), where there is no network
    vgg_weights: str = ""  # file of VGG16's (precision, recall), where there is no network
    raw: bool = False  # the generator itself, even if the checkpoint has an average of its weights
    device: str = "auto"  # auto (CUDA or Apple's MPS if there is one), cpu, cuda, cuda:1, mps
    seed: Seed = 1  # same seed, same figures
    cache_dir: Place = "data/cache"  # decoded images are kept here; may be deleted any time
    out_dir: Place = "evaluations"  # each call gets a folder of its own in here


REAL = "other real images"


def evaluate(config: Config) -> dict[str, dict[str, float]]:
    """Measure what config asks for and print it as a table, with the best checkpoint named.

    Returns the figures of each checkpoint by its path, and by REAL those of other real images: what
    a perfect generator would have. Raises RunError, with a sentence for the user, for bad input.
    """
    check_ranges(config)
    device = choose_device(config.device)
    if (config.inception_weights or config.vgg_weights) and not config.inception:
        raise RunError(
            "a file of weights is named for --inception, which is not asked for; add it."
        )
    nets = usable_nets(config) if config.inception else []
    paths = find_checkpoints(config.path_checkpoint)
    generators = open_generators(paths, config.raw)
    first = next(generators)
    image_size, _, nc = draw(first[1], 1, config.seed, device).shape[1:]

    # Real images: as many to compare with as are drawn, and as many again to show what chance does
    data_dir, images, fingerprint = real_images(paths[0], config, image_size, nc)
    trained_with = first[2]  # of a stranger's file it may be anything
    if not config.data_dir and isinstance(trained_with, int) and trained_with != fingerprint:
        print(
            f"{data_dir} has other images than the run was trained on; the figures are of those that "
            "it has now."
        )
    count = min(config.num_img, len(images) // 2)
    if count < 8:
        raise RunError(
            f"{data_dir} gives {len(images)} images; 16 or more are needed, to compare two halves."
        )
    order = np.random.default_rng(config.seed).permutation(len(images))
    real, others = images[order[:count]], images[order[count : 2 * count]]
    real_points = descriptors(real, config.seed)

    def measure(pixels):
        distances = swd(descriptors(pixels, config.seed), real_points, config.seed)
        row = {f"SWD {side}": distance for side, distance in distances.items()}
        row |= {"SWD": float(np.mean(list(distances.values()))), "contrast": contrast(pixels)}
        return row | (feature_figures(pixels, real, nets, config) if nets else {})

    rows, faces = {REAL: measure(others)}, {}
    opened = tqdm(chain([first], generators), total=len(paths), leave=False, disable=None)
    for path, generator, _ in opened:
        pixels = draw(generator, count, config.seed, device)
        rows[path], faces[path] = measure(pixels), pixels[:8].copy()
    print(
        f"{count:,} images of each kind, seed {config.seed}; the real ones out of "
        f"{len(images):,} from {data_dir}"
    )
    print_table(rows)

    # The best one's first faces, and the real images most like them
    judge = "FID" if "FID" in rows[REAL] else "SWD"
    best = min(faces, key=lambda path: rows[path][judge])
    picture = new_folder(config.out_dir, "evaluation") / "nearest.png"
    both = np.concatenate([faces[best], nearest(faces[best], images)])
    save_grid(to_images(torch.tensor(both)), picture)
    print(f"Best by {judge}: {best}")
    print(f"Its first 8 faces, each above the real image most like it: {picture}")
    return rows


def find_checkpoints(path):
    """The paths of a run's checkpoints, or of the one file; if path is empty, of the newest run."""
    path = find_place(path)
    if not Path(path).is_dir():
        return [str(path)]
    if paths := checkpoint_paths(path):
        return [str(each) for each in paths]
    raise RunError(f"{path} has no checkpoint in it; name another folder.")


def open_generators(paths, raw):
    """Yield (path, Generator, fingerprint of its images) of each checkpoint, opened when it is asked
    for; the fingerprint is None where it has none.

    Of several, one that cannot be opened is named and left out. Raises RunError where none can.
    """
    damaged, opened = None, 0
    for path in paths:
        try:
            checkpoint = load_file(path)
            generator = load_generator(path, checkpoint, raw)
        except RunError as error:
            damaged = damaged or error
            if len(paths) > 1:
                with tqdm.external_write_mode():
                    print(f"Leaving out a checkpoint, since {error}", flush=True)
        else:
            opened += 1
            held = checkpoint if isinstance(checkpoint, dict) else {}
            yield path, generator, held.get("fingerprint")
    if not opened:
        raise damaged


def real_images(path, config, image_size, nc):
    """Where the real images lie, all of them, uint8 (N, image_size, image_size, nc), and their
    fingerprint.

    They are those of config.data_dir, else those that the run of this checkpoint was trained on.
    """
    if config.data_dir:
        data_dir, max_images, skip = config.data_dir, 0, False
    else:
        data_dir, max_images, skip = trained_on(path)
    data_dir, skip = find_images(data_dir), skip or config.skip_bad_images
    return data_dir, *load_faces(data_dir, config.cache_dir, image_size, nc, max_images, skip)


def trained_on(path):
    """data_dir, max_images and skip_bad_images of the run that a checkpoint lies in.

    Without a run all of CelebA. Raises RunError where the run's config.json is damaged.
    """
    config = Path(path).parent / "config.json"
    if not config.exists():
        return CELEBA_DIR, 0, False
    try:
        saved = {"max_images": 0, "skip_bad_images": False} | json.loads(
            config.read_text("utf-8-sig")
        )
        used = saved["data_dir"], saved["max_images"], saved["skip_bad_images"]
        if [type(value) for value in used] != [str, int, bool] or saved["max_images"] < 0:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{config} does not tell which images its run was trained on; name some with "
            "--data-dir."
        ) from error
    return used


def draw(generator, count, seed, device):
    """The first `count` faces of a seed by a generator, uint8 (count, H, W, nc)."""
    generator.to(device)
    blocks = draw_noise(count, generator.main[0].in_channels, seed)
    pixels = [to_pixels(generate(generator, noise.to(device))) for noise in blocks]
    return torch.cat(pixels)[:count].permute(0, 2, 3, 1).contiguous().numpy()


def main():
    evaluate(tyro.cli(Config))


if __name__ == "__main__":
    run_as_script(main)
