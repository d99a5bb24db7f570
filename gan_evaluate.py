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
import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
import tyro
from torch.utils.data import Subset
from tqdm import tqdm

from common_tools import RunError, choose_device, run_as_script
from machinery.batches import to_images
from machinery.checkpoints import checkpoint_paths, load_file
from machinery.constants import Seed, check_ranges
from machinery.figures import contrast, descriptors, nearest, swd
from machinery.files import new_folder
from machinery.pictures import save_grid, to_pixels
from my_dataset import CELEBA_DIR, find_images, load_faces
from sampling import draw_noise, find_checkpoint, generate, load_generator


@dataclass
class Config:
    """Measure faces. Every constant can be edited in gan_evaluate.py or given as a flag."""

    path_checkpoint: str = ""  # file or run folder (each of its checkpoints); empty: newest run
    data_dir: str = ""  # folder or .zip of real images; empty: those that the run was trained on
    num_img: int = 2000  # images of each kind (fewer if data_dir has not twice as many)
    inception: bool = False  # FID, KID, precision and recall too; weights are downloaded once
    inception_weights: str = ""  # file of these weights, where there is no network
    raw: bool = False  # the generator itself, even if the checkpoint has an average of its weights
    device: str = "auto"  # auto (CUDA or Apple's MPS if there is one), cpu, cuda, cuda:1, mps
    seed: Seed = 1  # same seed, same figures
    cache_dir: str = "data/cache"  # where decoded images are kept; may be deleted at any time
    out_dir: str = "evaluations"  # each call gets a folder of its own in here


REAL = "other real images"
INCEPTION_URL = (  # of the weights that torch-fidelity loads
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)


# --- distances in the features of an Inception net


def inception_figures(pixels, others, cache_name, config):
    """FID, KID x 1000 with its spread, precision and recall by torch-fidelity, as a dict.

    pixels: generated images, others: real ones; uint8 (N, H, W, C). The features of others are kept
    in config.cache_dir under cache_name. Sources: Heusel et al. 2017 (FID), Binkowski et al. 2018
    (KID), Kynkaanniemi et al. 2019 (precision and recall).
    Raises RunError where the net's weights are not to be had.
    """
    import torch_fidelity  # slow to load

    def dataset(images):
        images = torch.tensor(images).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
        return Subset(images, range(len(images)))

    if config.inception_weights:
        try:  # torch-fidelity would run what code there is in the file
            torch.load(config.inception_weights, weights_only=True)
        except Exception as error:  # torch.load raises many kinds
            raise no_weights(error) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of more workers than cores
            figures = torch_fidelity.calculate_metrics(
                input1=dataset(pixels),  # the generated ones, for precision and recall
                input2=dataset(others),
                input2_cache_name=cache_name,
                cache_root=config.cache_dir,
                fid=True,
                kid=True,
                prc=True,
                kid_subset_size=min(1000, len(pixels)),
                feature_extractor_weights_path=config.inception_weights or None,
                cuda=choose_device(config.device).type == "cuda",
                verbose=False,
            )
    except URLError as error:
        raise no_weights(error) from error
    return {
        "FID": figures["frechet_inception_distance"],
        "KID": 1000 * figures["kernel_inception_distance_mean"],
        "+-": 1000 * figures["kernel_inception_distance_std"],
        "precision": figures["precision"],
        "recall": figures["recall"],
    }


def no_weights(error):
    """What to do where the Inception net's weights are not to be had, as a RunError."""
    return RunError(
        f"the Inception net's weights cannot be loaded ({error}); get {INCEPTION_URL} and name the "
        "file with --inception-weights."
    )


# --- the evaluation


def evaluate(config: Config) -> dict[str, dict[str, float]]:
    """Measure what config asks for and print it as a table, with the best checkpoint named.

    Returns the figures of each checkpoint by its path, and by REAL those of other real images: what
    a perfect generator would have. Raises RunError, with a sentence for the user, for bad input.
    """
    check_ranges(config)
    device = choose_device(config.device)
    paths = find_checkpoints(config.path_checkpoint)
    image_size, _, nc = draw(paths[0], 1, config, device).shape[1:]

    # Real images: as many to compare with as are drawn, and as many again to show what chance does
    data_dir = find_images(config.data_dir or trained_on(paths[0]))
    images, fingerprint = load_faces(data_dir, config.cache_dir, image_size, nc)
    count = min(config.num_img, len(images) // 2)
    if count < 8:
        raise RunError(f"num_img is {count} (half of {data_dir}, at most); it must be 8 or more.")
    order = np.random.default_rng(config.seed).permutation(len(images))
    real, others = images[order[:count]], images[order[count : 2 * count]]
    cache_name = f"{fingerprint}-{image_size}x{nc}-{count}-{config.seed}"

    real_points = descriptors(real, config.seed)
    rows = {}
    for path in tqdm([REAL, *paths], leave=False, disable=None):
        pixels = others if path == REAL else draw(path, count, config, device)
        features = inception_figures(pixels, real, cache_name, config) if config.inception else {}
        distances = swd(descriptors(pixels, config.seed), real_points, config.seed)
        rows[path] = {f"SWD {side}": distance for side, distance in distances.items()}
        rows[path] |= {"SWD": float(np.mean(list(distances.values())))}
        rows[path] |= {"contrast": contrast(pixels), **features}
    print(f"{count:,} images of each kind, seed {config.seed}, against {data_dir}")
    print_table(rows)

    # The best one's first faces, and the real images most like them
    judge = "FID" if config.inception else "SWD"
    best = min(paths, key=lambda path: rows[path][judge])
    faces = draw(best, 8, config, device)
    picture = new_folder(config.out_dir, "evaluation") / "nearest.png"
    both = np.concatenate([faces, nearest(faces, images)])
    save_grid(to_images(torch.tensor(both)), picture)
    print(f"Best by {judge}: {best}")
    print(f"Its first 8 faces, each above the real image most like it: {picture}")
    return rows


def find_checkpoints(path):
    """The paths of a run's checkpoints, or of the one file; if path is empty, of the newest run."""
    newest, _ = find_checkpoint(path)
    whole_run = not path or Path(path).is_dir()
    run = checkpoint_paths(Path(newest).parent) if whole_run else []
    return [str(each) for each in run or [newest]]


def trained_on(path):
    """The data_dir of the run that a checkpoint lies in; without a run, CelebA's."""
    try:
        return json.loads((Path(path).parent / "config.json").read_text())["data_dir"]
    except (OSError, ValueError, KeyError, TypeError):
        return CELEBA_DIR


def draw(path, count, config, device):
    """The first `count` faces of a seed by a checkpoint's generator, uint8 (count, H, W, nc)."""
    generator = load_generator(path, load_file(path), config.raw).to(device)
    blocks = draw_noise(count, generator.main[0].in_channels, config.seed)
    pixels = [to_pixels(generate(generator, noise.to(device))) for noise in blocks]
    return torch.cat(pixels)[:count].permute(0, 2, 3, 1).contiguous().numpy()


def print_table(rows):
    """Print {name: {column: number}} with aligned columns."""
    width = max(map(len, rows))
    columns = list(next(iter(rows.values())))
    print(" " * width, *(f"{column:>9}" for column in columns))
    for name, figures in rows.items():
        print(f"{name:{width}}", *(f"{figures[column]:9.2f}" for column in columns))


def main():
    evaluate(tyro.cli(Config))


if __name__ == "__main__":
    run_as_script(main)
