"""What is each trick of the recipe worth?

python benchmarks/recipe_study.py                                  # 2,000 faces, ngf 64; takes hours
python benchmarks/recipe_study.py --seeds 3 --inception
python benchmarks/recipe_study.py --seeds 3 --attributes list_attr_celeba.txt --only chapter,default

Trains the chapter's recipe, then the same with one thing changed at a time, then the default recipe
and that with one thing changed. Each is measured twice, with and without the average of its weights,
against real images that no run has seen, as gan_evaluate.py does; with CelebA's attributes at hand by
face_distance.py too. The table gives the mean over the seeds and half of how far they lie apart; the picture sets the first
9 faces of each side by side (seed 1, not chosen).

The runs stay in out_dir: an interrupted study goes on where it was, one with more seeds trains only
those that are missing. A study of other sizes needs another out_dir.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
from face_distance import make_distance
from matplotlib.figure import Figure
from setting import describe_machine, print_table, run

import gan_demo
import gan_evaluate
from common_tools import RunError, choose_device
from gan_demo import CHAPTER
from machinery import features, figures
from machinery.checkpoints import checkpoint_paths, newest_checkpoint
from machinery.constants import Count, OrAll
from machinery.files import numbered
from my_dataset import CELEBA_DIR, load_faces
from sampling import load_generator


@dataclass
class Config:
    data_dir: str = f"{CELEBA_DIR}.zip"  # folder or .zip of faces
    max_images: OrAll = 2000  # train on the first so many
    num_img: Count = 2000  # compare so many drawn faces with as many of the others
    num_epochs: OrAll = 0  # times through the images (0: each recipe's own number)
    width: Count = 64  # ngf and ndf
    seeds: Count = 1  # runs of each recipe, with seeds 1, 2, ...
    only: str = ""  # names of recipes, separated by commas; empty: all
    attributes: str = ""  # CelebA's list_attr_celeba.txt, of the images in data_dir: face distance
    inception: bool = False  # FID, KID, precision and recall too
    inception_weights: str = ""  # file of Inception's (FID, KID), where there is no network
    vgg_weights: str = ""  # file of VGG16's (precision, recall), where there is no network
    device: str = "auto"  # auto, cpu or cuda
    cache_dir: str = "data/cache"  # where decoded images are kept
    out_dir: str = "study"  # the runs and the picture


DEFAULT = {name: getattr(gan_demo.Config, name) for name in CHAPTER}

# What each recipe changes of the chapter's. All keep an average of the weights: it leaves the
# training as it is, so each run is measured with and without it.
RECIPES = {
    "chapter": {},
    "constant lr": {"lr_decay_epochs": 0},
    "flip": {"horizontal_flip": True},
    "real label 0.9": {"real_label": 0.9},
    "labels 0.9 and 0.1": {"real_label": 0.9, "fake_label": 0.1},
    "batch 8": {"batch_size": 8},
    "lr_d 0.0004": {"lr_d": 0.0004},
    "shift": {"diffaugment": "shift"},
    "DiffAugment": {"diffaugment": "color,translation"},
    "default": DEFAULT,
    "default in float32": DEFAULT | {"bf16": False},
    "default with batch 10": DEFAULT | {"batch_size": 10},
    "default with match_contrast 50": DEFAULT | {"match_contrast": 50.0},
    "default without match_contrast": DEFAULT | {"match_contrast": 0.0},
    "default without shift": DEFAULT | {"diffaugment": ""},
}


def trained(recipe, config, seed):
    """The run folder of a recipe, trained to its end: now, or earlier, or begun earlier."""
    out_dir = Path(config.out_dir, f"{recipe} seed {seed}".replace(" ", "_"))
    begun = [run for _, run in numbered(out_dir, "run") if checkpoint_paths(run)]
    changes = CHAPTER | RECIPES[recipe] | {"ema_decay": gan_demo.Config.ema_decay}
    if config.num_epochs:
        changes["num_epochs"] = config.num_epochs
    settings = gan_demo.Config(
        data_dir=config.data_dir,
        max_images=config.max_images,
        ngf=config.width,
        ndf=config.width,
        seed=seed,
        device=config.device,
        cache_dir=config.cache_dir,
        out_dir=str(out_dir),
        keep_checkpoints=1,
        resume=str(begun[-1]) if begun else "",
        **changes,
    )
    return gan_demo.train(settings)


def main(config: Config):
    named = [name.strip() for name in config.only.split(",")]
    recipes = [*dict.fromkeys(named)] if config.only else list(RECIPES)
    if unknown := set(recipes) - set(RECIPES):
        raise RunError(f"only names {', '.join(unknown)}; it takes {', '.join(RECIPES)}.")
    if config.num_img < 9:
        raise RunError(f"num_img is {config.num_img}; it must be 9 or more.")
    nets = features.usable_nets(config) if config.inception else []
    images, _ = load_faces(config.data_dir, config.cache_dir)
    unseen = images[config.max_images or len(images) :]
    if len(unseen) < 2 * config.num_img:
        raise RunError(
            f"{config.data_dir} has {len(unseen)} images besides those to train on, fewer than "
            f"twice num_img {config.num_img}."
        )
    order = np.random.default_rng(1).permutation(len(unseen))[: 2 * config.num_img]
    halves = np.split(len(images) - len(unseen) + order, 2)
    real, others = (images[half] for half in halves)
    face_distance = None
    if config.attributes:
        data = config.data_dir, images, halves
        face_distance = make_distance(config.attributes, *data, config.out_dir)

    # Train
    seeds = range(1, config.seeds + 1)
    runs = {(recipe, seed): trained(recipe, config, seed) for recipe in recipes for seed in seeds}

    # Measure: each net as it is, then its average
    real_points = figures.descriptors(real)
    device = choose_device(config.device)

    def measure(pixels):
        distances = figures.swd(figures.descriptors(pixels), real_points)
        found = {"SWD": mean(distances.values()), "contrast": figures.contrast(pixels)}
        if face_distance:
            found["face distance"] = face_distance(pixels)
        return found | (features.feature_figures(pixels, real, nets, config) if nets else {})

    floor = measure(others)
    rows, faces = [], {}
    for recipe in recipes:
        row = [recipe]
        for raw in (True, False):
            measured = []
            for seed in seeds:
                generator = load_generator(*newest_checkpoint(runs[recipe, seed]), raw)
                pixels = gan_evaluate.draw(generator, config.num_img, 1, device)
                measured.append(measure(pixels))
                faces.setdefault((recipe, raw), pixels[:9])
            row += [spread([found[name] for found in measured]) for name in floor]
        rows.append(row)
    floor_row = [spread([value]) for value in floor.values()]
    rows.append([gan_evaluate.REAL, *floor_row, *[""] * len(floor)])
    print(f"{describe_machine()}; {len(seeds)} seeds, {config.num_img:,} images of each kind\n")
    print_table(["recipe", *floor, *(f"{name}, average" for name in floor)], rows)
    draw_panels(faces, Path(config.out_dir, "study.png"))


def spread(values):
    """The mean, and half of how far the values lie apart if there are several."""
    apart = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{apart}"


def draw_panels(faces, path):
    """9 faces of each recipe, a column each: above as trained, below by the average."""
    recipes = list(dict.fromkeys(recipe for recipe, _ in faces))
    figure = Figure(figsize=(2 * len(recipes), 4.4), layout="constrained")
    panels = figure.subplots(2, len(recipes), squeeze=False)
    for (recipe, raw), pixels in faces.items():
        axes = panels[0 if raw else 1, recipes.index(recipe)]
        rows = pixels.reshape(3, 3, *pixels.shape[1:]).swapaxes(1, 2)
        axes.imshow(rows.reshape(3 * pixels.shape[1], -1, pixels.shape[3]))
        axes.set(xticks=[], yticks=[], title=recipe if raw else "its average")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    run(main, Config)
