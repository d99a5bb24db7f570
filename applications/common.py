"""What all applications share: images to learn from and images kept apart, the figures of a run, and
pictures on which a trained application is used."""

import json
import os
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import ImageOps

from common_tools import RunError
from machinery.batches import FaceBatches, to_images
from machinery.checkpoints import load_checkpoint, newest_checkpoint, trained_runs
from machinery.console import quoted
from machinery.constants import (
    Count,
    Free,
    OrAll,
    Place,
    RunConfig,
    check_config,
    check_ranges,
    train_as_told,
)
from machinery.figures import print_table
from machinery.files import atomic_write, writing
from machinery.image_files import EXTENSIONS, counts, ending
from machinery.pictures import make_grid, save_picture, to_pictures, to_pixels
from machinery.processes import average_gradients, choose_device, get_rank, map_in_processes
from my_dataset import (
    CELEBA_PAGE,
    DRAWN_FACES,
    MANY_FACES,
    CelebADataset,
    find_apart,
    load_faces,
    resize_and_crop,
)

SIDE = 64  # pixels a side of the images that all applications learn from
RELEASED = Path(__file__).parent.parent / "checkpoints"
OVERVIEW, TILE, MOST = "overview.png", 128, 64  # inputs above outputs: side of each, how many


@dataclass
class TrainConfig(RunConfig):
    """The constants of every application's training, beside those of every run. Its Config adds where
    the images are, num_epochs and the nets' own."""

    max_images: OrAll = 8000  # use the first so many images only (0: all)
    skip_bad_images: bool = False  # go on without the images that cannot be read
    cache_dir: Free[Place] = "data/cache"  # decoded images are kept here; may be deleted any time
    batch_size: Count = 32  # images in one iteration (of each process, under torchrun)
    bf16: Free[bool] = True  # compute in bfloat16 on GPUs and CPUs that have units for it


@dataclass
class UseConfig:
    """The constants of using an application that has been trained."""

    input: Place  # a picture, or a folder of them
    out_dir: Place  # a new folder: one PNG for each input, and a picture of inputs above outputs
    path_checkpoint: str = ""  # run or file; empty: your newest run, else the released weights
    device: str = "auto"  # auto (CUDA or Apple's MPS if there is one), cpu, cuda, cuda:1, mps


def train_or_use(train, train_config, use, use_config, given_by="input"):
    """What an application does as a script: use(config) if there is an --input, or what else it is
    given by, else train(config)."""
    given = {word.partition("=")[0] for word in sys.argv if word.startswith("--")}
    of_training, of_use = (
        {f"--{field.name}".replace("_", "-") for field in fields(each)}
        for each in (train_config, use_config)
    )
    program = f"python -m applications.{Path(sys.argv[0]).stem}"
    if f"--{given_by}" in given:
        use(tyro.cli(use_config, prog=f"{program} --{given_by} x"))  # whose --help is of use
    elif only := given & (of_use - of_training):
        raise RunError(f"{min(only)} is for using what has been trained; add --{given_by}, too.")
    else:
        train_as_told(train, train_config, program=program)


def checked_device(config):
    """The device that config names. Raises RunError where there is none such, or a constant is wrong."""
    (check_config if isinstance(config, RunConfig) else check_ranges)(config)
    return choose_device(config.device)


def step(loss, net, optimizer):
    """A step of a net's optimizer down the loss; other nets that it came through get no gradients."""
    optimizer.zero_grad()
    loss.backward(inputs=list(net.parameters()))
    average_gradients(net)
    optimizer.step()


# --- images to learn from


def open_images(config, device, name="data_dir", nc=3, side=SIDE):
    """The images that a constant of config, a TrainConfig, names: all but the last tenth to learn from,
    mirrored at random, as FaceBatches; and that tenth, which is kept apart, uint8 (n, side, side, nc).

    Both are as load_faces has them, for nc 6 pairs A|B of pictures side by side. Third comes config with
    the place where they were found. Raises RunError as load_faces does, for fewer than 10 images, and
    where the first of the pairs is none.
    """
    source = find_apart(getattr(config, name), config.resume or config.out_dir, name)
    options = config.max_images, config.skip_bad_images
    images, fingerprint = load_faces(source, config.cache_dir, side, nc, *options, name)
    if nc == 6:
        check_pairs(source)
    apart = len(images) // 10
    if not apart:
        raise RunError(
            f"{source} gives {len(images)} images; a tenth of them is kept apart, so use 10 or more."
        )
    learnt = FaceBatches(
        images[:-apart], config.batch_size, config.seed, device, horizontal_flip=True,
        source=source, fingerprint=fingerprint,
    )  # fmt: skip
    return learnt, images[-apart:], replace(config, **{name: os.path.abspath(source)})


def image_names(config, count):
    """The names of the `count` images that load_faces has of config's data_dir."""
    dataset = CelebADataset(config.data_dir, None)
    names = dataset.names[: config.max_images or None]
    if len(names) > count:  # some have been left out
        names = [name for name in names if dataset.can_read(name)]
    return names


def open_attributes(config, count, of_seed, of_row=dict):
    """What each of config's `count` images shows, a list: of a face that is drawn here of_seed(seed), of
    another one of_row({name: bool}) of its row in attributes_file.

    Raises RunError as read_attributes does.
    """
    files, drawn = image_names(config, count), (DRAWN_FACES, MANY_FACES)
    if Path(config.data_dir).absolute() in [Path(place).absolute() for place in drawn]:
        seeds = [int(Path(file).stem) for file in files]
        return list(chain(*map_in_processes(partial(of_each, of_seed), seeds, chunk=8)))
    names, values = read_attributes(config.attributes_file, files)
    return [of_row(dict(zip(names, row))) for row in values.tolist()]


def of_each(function, items):
    return [function(item) for item in items]


def check_pairs(place):
    """Raise RunError where the first image of a folder or zip that can be read is no pair."""
    dataset = CelebADataset(place, None)
    name = next(filter(dataset.can_read, dataset.names))
    width, height = dataset.load_image(name).size
    if width <= height:
        raise RunError(
            f"{name} of {place} is {width} x {height} pixels, no pair of pictures side by side; name a "
            "folder or .zip of pairs."
        )


def read_attributes(path, files):
    """The names in a file of CelebA's attributes (list_attr_celeba.txt), and whether each of these
    images has them, bool (N, k).

    It has a line with a count, one with the names, and for each image one with its file name and a 1
    or a -1 for each. files: paths of images, of which a row has the whole or the last part. Raises
    RunError where it is not so, or lacks an image.
    """
    try:
        _, names, *rows = Path(path).read_text("utf-8").splitlines()
        names = names.split()
        # From the right, since the names of files may have spaces
        rows = [row.rsplit(None, len(names)) for row in rows if row.strip()]
        known = {name: row for name, *row in rows}
        called = [file if file in known else Path(file).name for file in files]
        if len({*called}) < len(called):
            raise ValueError(f"several images are called {Counter(called).most_common(1)[0][0]}")
        values = [known[name] for name in called]
        if any(len(row) != len(names) or not {*row} <= {"1", "-1"} for row in values):
            raise ValueError("not as many 1 and -1 in each row as there are names")
    except (OSError, ValueError, KeyError) as error:
        reason = f"no row for {error}" if isinstance(error, KeyError) else error
        if isinstance(error, FileNotFoundError):
            reason = "there is no such file"
        raise RunError(
            f"attributes_file {path} does not tell the attributes of the images ({reason}); name CelebA's "
            f"list_attr_celeba.txt, which is at {CELEBA_PAGE}, or one like it."
        ) from error
    return names, np.array(values) == "1"


# --- figures of a run


@torch.no_grad()
def apply(net, images):
    """What a net makes of images (N, C, H, W) as it is when it is used: not training."""
    was_training = net.training
    made = torch.cat([net.eval()(each) for each in images.split(100)])
    net.train(was_training)
    return made


def as_pixels(images):
    """Images (N, C, H, W) in [-1, 1] as figures take them: uint8 (N, H, W, C)."""
    return to_pixels(images).permute(0, 2, 3, 1).numpy()


def save_figures(folder, rows, count):
    """Print {name: {column: number}}, measured on `count` images, and keep it as figures.json."""
    if get_rank() == 0:
        with atomic_write(folder / "figures.json") as file:
            file.write(json.dumps({"images": count, "figures": rows}, indent=2).encode())
        print(f"On {count:,} images that were not trained on ({folder / 'figures.json'}):")
        print_table(rows)


# --- a trained application


def load_net(config, name, build):
    """The net of application `name` on the CPU, ready for use: the average of its weights, if the
    checkpoint has one. config: a UseConfig; build: from a state dict to a net that fits it.

    Raises RunError where there is no such checkpoint, or it is of another net.
    """
    runs, released = Path("log_gan", name), RELEASED / f"{name}.pkl"
    path = config.path_checkpoint or next(trained_runs(runs), released)
    if path == released and not released.exists():
        raise RunError(
            f"neither a run in {runs} nor {released} has a checkpoint; train one with python -m "
            f"applications.{name}, or name a file with --path-checkpoint."
        )
    if Path(path, f"{name}.pkl").exists():  # the folder of released weights
        path = Path(path, f"{name}.pkl")
    if Path(path).is_dir():
        path, checkpoint = newest_checkpoint(next(trained_runs(path), path))  # of a folder of runs
    else:
        checkpoint = load_checkpoint(path)
    weights = checkpoint.get("g_ema_model_state_dict", checkpoint["g_model_state_dict"])
    try:
        with torch.device("meta"):  # sizes without numbers: strangers' files may claim any
            net = build(weights)
        net.load_state_dict(weights, assign=True)
    except (LookupError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise RunError(
            f"{path} is of another net than applications.{name} has; name a run or a file of it."
        ) from error
    print(f"Using {path}")
    return net.float().eval()


def open_net(config, name, build):
    """What load_net gives, on the device of config, whose constants are checked first."""
    device = checked_device(config)
    return load_net(config, name, build).to(device)


def use_on_pictures(config, change, heads=()):
    """Write change(picture) for each picture of config, a UseConfig, and an overview of them all.

    change: from a PIL image, RGB of any size, to two: the input as it was used, and the output.
    heads: PIL images, where change gives an output for each of them: files are numbered then, as a_1.png
    of a.jpg, and the overview has these pictures above a row of each input and its outputs.
    A file that cannot be read, or for which change raises RunError, is named and passed over.
    Returns the paths of what was written. Raises RunError where out_dir has files in it or cannot be
    written, and where there is no picture left.
    """
    dataset = open_pictures(config.input)
    if Path(os.path.realpath(config.out_dir)).is_relative_to(os.path.realpath(config.input)):
        raise RunError(
            f"out_dir {config.out_dir} lies in input {config.input}, so what is made would be an input "
            "the next time; name another folder."
        )
    folder = new_folder(config.out_dir)
    paths, tiles, taken = [], [], {OVERVIEW}
    endings = [f"_{number}.png" for number in range(1, len(heads) + 1)] or [".png"]
    for name in dataset.names:
        try:
            used, *made = change(dataset.load_image(name))
        except RunError as error:
            print(f"Passed over {name}: {error}", flush=True)
            continue
        stem = str(Path(name).with_suffix(""))
        if taken & {f"{stem}{end}".lower() for end in endings}:
            stem = name  # of a.jpg and a.png, or one that is named like the overview
        for end, picture in zip(endings, made, strict=True):
            taken.add(f"{stem}{end}".lower())
            save_picture(picture, folder / f"{stem}{end}", make_folder=True)  # its folders, too
            paths.append(folder / f"{stem}{end}")
        if len(tiles) < MOST:
            tiles.append([tile(each) for each in (used, *made)])
    if not tiles:
        raise RunError(f"none of the pictures of input {config.input} could be used; name others.")
    if heads:
        corner = np.full_like(tiles[0][0], 255)
        rows = np.stack([[corner, *map(tile, heads)], *tiles])
        overview = make_grid(to_images(torch.tensor(rows).flatten(0, 1)), rows.shape[1])
    else:
        overview = above(np.stack(tiles))
    save_picture(overview, folder / OVERVIEW)
    where = "beside" if heads else "above"
    print(f"{len(paths)} written to {quoted(folder)}; inputs {where} outputs: {folder / OVERVIEW}")
    return [*paths, folder / OVERVIEW]


def texts_of(value, name):
    """The texts of constant `name`: one, a list, or tuples of several in a list, as flags give them.

    Raises RunError for anything else."""
    several = [value] if isinstance(value, str) else value
    with suppress(TypeError):
        texts = [text for each in several for text in ([each] if isinstance(each, str) else each)]
        if all(isinstance(text, str) for text in texts):
            return texts
    raise RunError(f"{name} is {value!r}; it must be a text, or a list of texts.")


def change_picture(net, picture):
    """Of a PIL image (RGB) the middle square as nets see it, and what the net makes of it."""
    given = middle_square(picture, next(net.parameters()).device)
    return tuple(to_pictures(torch.cat([given, apply(net, given)])))


def middle_square(picture, device):
    """The middle square of a PIL image (RGB) as nets see it: (1, 3, SIDE, SIDE) in [-1, 1]."""
    pixels = torch.tensor(np.asarray(resize_and_crop(picture, SIDE)))
    return to_images(pixels[None]).to(device)


def new_folder(path):
    """The folder, made if need be. Raises RunError where it has files in it or cannot be written."""
    folder = Path(path)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RunError(f"out_dir {folder} has files in it already; name a new folder.")
    return folder


def tile(picture):
    """A PIL image for the overview, uint8 (TILE, TILE, 3)."""
    if max(picture.size) > TILE * min(picture.size):  # a line: nothing would be left of it
        picture = picture.resize((TILE, TILE))
    return np.asarray(ImageOps.pad(picture, (TILE, TILE)))


def open_pictures(place, called="input", nc=3):
    """The picture, or the folder of them, as a CelebADataset. Raises RunError where it is neither."""
    path = Path(place)
    if not path.exists():
        raise RunError(f"{called} {place} does not exist; name a picture or a folder of them.")
    if path.is_file() and ending(path.name) not in EXTENSIONS:
        endings = ", ".join(sorted(EXTENSIONS))
        raise RunError(
            f"{called} {place} is neither a folder nor a picture ({endings}); name another."
        )
    dataset = CelebADataset(path, None, nc, called)
    if dataset.passed_over:
        passed_over = counts(dataset.passed_over)
        print(f"Passed over in {place}: {passed_over}; convert them to use them too.", flush=True)
    return dataset


def above(pairs, per_row=8):
    """Pairs of pictures, uint8 (N, 2, H, W, 3), as one (a PIL image): in rows, first above second."""
    columns = min(per_row, len(pairs))
    missing = -len(pairs) % columns
    pairs = np.pad(pairs, [(0, missing), *[(0, 0)] * 4])
    rows = pairs.reshape(-1, columns, *pairs.shape[1:]).swapaxes(1, 2)
    return make_grid(to_images(torch.tensor(rows).flatten(0, 2)), columns)
