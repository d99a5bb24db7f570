"""How long until the faces are good, next to pytorch/examples' dcgan?

git clone https://github.com/pytorch/examples
python benchmarks/quality_speed.py examples/dcgan/main.py --data-dir data/img_align_celeba.zip

Both train from nothing on the same full-size JPEGs, in turn, as whole processes: gan_demo.py with all
its defaults, the other one with its own, but as many epochs as asked. Each of their checkpoints is then
measured: SWD to real images that neither has seen, against the seconds from the start of the process
(reading or packing of the images, and all else, included) until that checkpoint lay on the disk. The
picture shows both courses, and what a reader has after 1, 2, 5 and 10 minutes with either.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import tyro
from matplotlib.figure import Figure
from setting import ROOT, describe_machine, print_table, run, write_jpegs

import gan_evaluate
from common_tools import RunError, choose_device
from drawings.faces import draw_faces
from machinery import figures
from machinery.checkpoints import checkpoint_paths, load_file
from machinery.constants import Count
from machinery.files import atomic_write, new_folder
from my_dataset import CelebADataset, load_faces
from sampling import load_generator

MINUTES = 1, 2, 5, 10
OURS, THEIRS = "gan_demo.py", "pytorch/examples"


@dataclass
class Config:
    peer: tyro.conf.Positional[str]  # path of pytorch/examples' dcgan/main.py
    data_dir: str = ""  # folder or .zip of faces; empty: drawn ones
    images: Count = 2000  # train on the first so many
    num_img: Count = 2000  # compare so many drawn faces with as many of the others
    peer_epochs: Count = 20  # of the other one
    width: Count = 64  # ngf and ndf of both
    device: str = "auto"  # auto, cpu or cuda
    out_dir: str = "quality_speed"  # each call gets a folder of its own in here


def trained(command, checkpoints):
    """Run a training. Returns {path: seconds from its start} of what checkpoints() then finds."""
    start = time.time()
    ended = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True)
    if ended.returncode:
        raise RunError(f"{command[1]} failed: {ended.stderr[-2000:]}")
    if not (saved := list(checkpoints())):
        raise RunError(
            f"{command[1]} has written no checkpoint; is it the dcgan/main.py meant here?"
        )
    return {path: path.stat().st_mtime - start for path in saved}


def reached(course, seconds):
    """The last checkpoint of a course [(seconds, SWD, faces)] by that time; None before the first."""
    return next((each for each in reversed(course) if each[0] <= seconds), None)


def time_to(course, distance):
    """Seconds until a course was at that distance or nearer; None if it never was."""
    return next((seconds for seconds, swd, _ in course if swd <= distance), None)


def draw_picture(courses, path):
    """Both courses above, 9 faces (not chosen) of each after MINUTES below."""
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    axes = above.subplots()
    for name, course in courses.items():
        seconds, distances, _ = zip(*course)
        axes.plot(np.array(seconds) / 60, distances, "o-", markersize=3, label=name)
    axes.set(xlabel="minutes from the start", ylabel="SWD (lower is better)", xlim=0, ylim=0)
    axes.legend()
    panels = below.subplots(2, len(MINUTES), squeeze=False)
    for row, (name, course) in zip(panels, courses.items()):
        for panel, minutes in zip(row, MINUTES):
            panel.set(xticks=[], yticks=[])
            if found := reached(course, 60 * minutes):
                faces = found[2].reshape(3, 3, *found[2].shape[1:]).swapaxes(1, 2)
                panel.imshow(faces.reshape(3 * found[2].shape[1], -1, 3))
        row[0].set_ylabel(name)
    for panel, minutes in zip(panels[0], MINUTES):
        panel.set_title(f"after {minutes} min")
    with atomic_write(path) as file:
        figure.savefig(file, dpi=100, format="png")


def main(config: Config):
    device = choose_device(config.device)
    if not Path(config.peer).is_file():
        raise RunError(f"{config.peer} does not exist; name the path of dcgan/main.py.")
    if config.num_img < 9:
        raise RunError(f"num_img is {config.num_img}; it must be 9 or more.")
    folder = new_folder(config.out_dir, "comparison")
    jpegs, cache = folder / "images", folder / "cache"
    source, needed = config.data_dir or folder / "drawn.zip", config.images + config.num_img
    if not config.data_dir:
        draw_faces(source, needed)
    if (count := len(CelebADataset(source, None))) < needed:
        raise RunError(
            f"{source} has {count} images, fewer than images and num_img ask for ({needed})."
        )
    write_jpegs(source, jpegs / "faces", needed)
    everything = sorted((jpegs / "faces").iterdir())
    unseen, _ = load_faces(jpegs, cache)  # and below only those to train on are left
    unseen = np.array(unseen[config.images :])
    for path in everything[config.images :]:
        path.unlink()
    real = figures.descriptors(unseen)

    # Train: in turn, as a user would
    width = ["--ngf", config.width, "--ndf", config.width]
    ours = [sys.executable, ROOT / "gan_demo.py", "--data-dir", jpegs, "--device", device, *width]
    ours += ["--cache-dir", cache, "--out-dir", folder / "ours", "--keep-checkpoints", 0]
    theirs = [sys.executable, config.peer, "--dataset", "folder", "--dataroot", jpegs, *width]
    theirs += ["--outf", folder / "theirs", "--niter", config.peer_epochs]
    theirs += ["--accel"] if device.type != "cpu" else []
    files = {
        OURS: trained(ours, lambda: checkpoint_paths(folder / "ours/run1")),
        THEIRS: trained(theirs, lambda: (folder / "theirs").glob("netG_epoch_*.pth")),
    }

    # Measure
    courses = {name: [] for name in files}
    for name, found in files.items():
        for path, seconds in sorted(found.items(), key=lambda item: item[1]):
            pixels = gan_evaluate.draw(
                load_generator(path, load_file(path)), len(unseen), 1, device
            )
            distances = figures.swd(figures.descriptors(pixels), real)
            courses[name].append((seconds, mean(distances.values()), pixels[:9]))

    # Show
    print(f"{describe_machine()}; {device}")
    print(f"{config.images:,} images, ngf = ndf = {config.width}\n")
    rows = []
    for minutes in MINUTES:
        row = [reached(courses[name], 60 * minutes) for name in courses]
        rows.append([f"after {minutes} min", *(found[1] if found else "" for found in row)])
    rows.append(["at its end", *(course[-1][1] for course in courses.values())])
    rows.append(["minutes that it took", *(course[-1][0] / 60 for course in courses.values())])
    print_table(["SWD", *courses], rows)
    needed, goal, _ = courses[THEIRS][-1]
    seconds = time_to(courses[OURS], goal)
    said = f"{seconds:.0f} s, {needed / seconds:.1f} times as fast" if seconds else "no time"
    best = min(distance for _, distance, _ in courses[THEIRS])
    print(
        f"\n{THEIRS} ends at {goal:.1f} after {needed:.0f} s (its best was {best:.1f}); "
        f"{OURS} is there after {said}."
    )
    kept = {name: [each[:2] for each in course] for name, course in courses.items()}
    (folder / "courses.json").write_text(json.dumps(kept))
    draw_picture(courses, folder / "quality_speed.png")
    print(f"The picture: {folder / 'quality_speed.png'}")


if __name__ == "__main__":
    run(main, Config)
