"""How close does a checkpoint come to real faces that it has not seen?

python benchmarks/unseen_faces.py --attributes-file list_attr_celeba.txt   # the released weights
python benchmarks/unseen_faces.py --attributes-file list_attr_celeba.txt --path-checkpoint log_gan/run1

It was trained on the first max_images of data_dir; those after them are what it is compared with. What the
first ones have themselves, a draw a seed, is the least that can be reached. Each figure is the mean over
the seeds, with half of how far they lie apart.
"""

from dataclasses import dataclass
from statistics import mean

import numpy as np
from face_distance import make_distance
from recipe_study import spread
from setting import describe_machine, print_table, run

import gan_evaluate
from common_tools import RunError, choose_device
from machinery import figures
from machinery.constants import Count, Place
from my_dataset import CELEBA_DIR, load_faces
from sampling import find_checkpoint, load_generator, released


@dataclass
class Config:
    path_checkpoint: str = str(released()[0])  # file or run folder
    data_dir: str = f"{CELEBA_DIR}.zip"  # folder or .zip of faces
    max_images: gan_evaluate.Enough = (
        7200  # trained on the first so many; compared with those after them
    )
    num_img: gan_evaluate.Enough = 2000  # how many faces are drawn
    seeds: Count = 3  # of the noise: 1, 2, ...
    attributes_file: Place = "data/list_attr_celeba.txt"  # CelebA's, of the images in data_dir
    device: str = "auto"  # auto, cpu or cuda
    cache_dir: str = "data/cache"  # where decoded images are kept
    out_dir: str = "study"  # where the net of the face distance is kept


def main(config: Config):
    images, _ = load_faces(config.data_dir, config.cache_dir)
    left = len(images) - config.max_images
    if left < 8:
        raise RunError(
            f"{config.data_dir} has {len(images)} images, {max(left, 0)} of them after the first "
            f"max_images {config.max_images}; 8 or more are needed."
        )
    seeds, device = range(1, config.seeds + 1), choose_device(config.device)
    generator = load_generator(*find_checkpoint(config.path_checkpoint)).to(device)
    if (shape := gan_evaluate.draw(generator, 1, 1, device).shape[1:]) != images.shape[1:]:
        raise RunError(
            f"{config.path_checkpoint} draws {shape[0]} x {shape[1]} pixels of {shape[2]} channels; only "
            "64 x 64 of 3 are compared."
        )
    unseen = config.max_images + np.arange(min(left, config.num_img))
    halves = unseen, np.arange(config.max_images + len(unseen), len(images))
    face_distance = make_distance(
        config.attributes_file, config.data_dir, images, halves, config.out_dir
    )
    most = min(len(unseen), config.max_images)  # of SWD, which falls with their number
    real = figures.descriptors(images[unseen[:most]])

    def measure(pixels):
        distances = figures.swd(figures.descriptors(pixels[:most]), real)
        return mean(distances.values()), figures.contrast(pixels), face_distance(pixels)

    def seen(seed):
        order = np.random.default_rng(seed).permutation(config.max_images)
        return images[order[: config.num_img]]

    def drawn(seed):
        return gan_evaluate.draw(generator, config.num_img, seed, device)

    rows = [
        [name, *map(spread, zip(*(measure(pixels(seed)) for seed in seeds)))]
        for name, pixels in (("images of the training", seen), (config.path_checkpoint, drawn))
    ]
    print(
        f"{describe_machine()}; {len(unseen):,} images that were not trained on, {config.num_img:,} "
        f"drawn, {len(seeds)} seeds\n"
    )
    print_table(["", "SWD", "contrast", "face distance"], rows)


if __name__ == "__main__":
    run(main, Config)
