"""How exactly does align_faces.py bring faces back, and how many photos does it do in a second?

python benchmarks/align_faces.py --data-dir data/img_align_celeba.zip

Each photo is an aligned face, turned by up to 25 degrees, scaled by 0.7 to 3 and set into a larger
picture, every other one of noise, the others plain. So it is known where the face's frame lies in it. An
eye is off by as many pixels of the aligned face (of 178 across) as it lies from where it was.
"""

import math
import resource
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from setting import FULL_SIZE, describe_machine, print_table, run

import align_faces
from align_faces import cut, detector, find_faces, frame_of, points_in, read_table
from common_tools import RunError
from machinery.constants import Count
from machinery.processes import map_in_processes
from my_dataset import CelebADataset

EYES = np.array([69 + 111j, 108 + 111j])  # of CelebA's aligned images, about
FAR = 20  # pixels of the aligned face: an eye that is farther off belongs to no found face


@dataclass
class Config:
    data_dir: str  # folder or .zip of aligned faces, of 178 x 218 pixels or half of that
    photos: Count = 500  # how many to make and align
    first: int = 0  # the face to begin with
    side: int = 1000  # pixels of a photo's width and height
    seed: int = 1  # same seed, same photos


def make_photo(face, random, side, noise):
    """Set a face of 178 x 218 pixels into a photo. Returns it, and the (turn, shift) from one to other."""
    scale, angle = random.uniform(0.7, 3), math.radians(random.uniform(-25, 25))
    turn = scale * complex(math.cos(angle), math.sin(angle))
    width, height = FULL_SIZE
    corners = np.array([0, width, height * 1j, width + height * 1j]) * turn
    low, high = (np.array([f(corners.real), f(corners.imag)]) for f in (np.min, np.max))
    shift = complex(*random.uniform(-low, np.maximum(side - high, -low)))
    if noise:
        photo = Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8))
    else:
        photo = Image.new("RGB", (side, side), tuple(random.integers(0, 256, 3).tolist()))
    small = face.resize(
        [round(edge * min(1, scale)) for edge in face.size], Image.Resampling.LANCZOS
    )
    ratio_x, ratio_y = (edge / full for edge, full in zip(small.size, FULL_SIZE))
    back, start = 1 / turn, -shift / turn
    matrix = (back.real * ratio_x, -back.imag * ratio_x, start.real * ratio_x)
    matrix += (back.imag * ratio_y, back.real * ratio_y, start.imag * ratio_y)
    put = partial(
        Image.Image.transform, size=photo.size, method=Image.Transform.AFFINE, data=matrix
    )
    mask = put(Image.new("L", small.size, 255), resample=Image.Resampling.BILINEAR)
    photo.paste(put(small, resample=Image.Resampling.BICUBIC), (0, 0), mask)
    return photo, turn, shift


def write_photos(faces, folder, config, numbers):
    """Write the photos of these numbers as JPEGs. Returns the (turn, shift) of each."""
    places = []
    for number in numbers:
        random = np.random.default_rng([config.seed, number])
        face = original(faces, config, number)
        photo, *place = make_photo(face, random, config.side, noise=number % 2)
        photo.save(folder / f"{number:05d}.jpg", quality=95)
        places.append(place)
    return places


def original(faces, config, number):
    name = faces.names[(config.first + number) % len(faces)]
    return faces.load_image(name).resize(FULL_SIZE, Image.Resampling.BICUBIC)


def psnr(image, other):
    difference = np.asarray(image, float) - np.asarray(other, float)
    return 10 * math.log10(255**2 / max((difference**2).mean(), 1e-9))


def where_the_time_goes(photos, names):
    """Milliseconds of processor time that each part of the work takes, of a photo."""
    parts = {"reading": 0, "finding": 0, "cutting out": 0}
    for name in names:
        times = [time.process_time()]
        photo = photos.load_image(name)
        times.append(time.process_time())
        faces = find_faces(photo)
        times.append(time.process_time())
        for points, _ in faces:
            cut(photo, *frame_of(points))
        times.append(time.process_time())
        for part, seconds in zip(parts, np.diff(times)):
            parts[part] += 1000 * seconds / len(names)
    return parts


def main(config: Config):
    detector()  # if it is not installed, say so first
    faces = CelebADataset(config.data_dir, None)
    with tempfile.TemporaryDirectory() as here:
        folder, out_dir = Path(here, "photos"), Path(here, "faces")
        folder.mkdir()
        write = partial(write_photos, faces, folder, config)
        places = [
            place for block in map_in_processes(write, range(config.photos), 4) for place in block
        ]
        start = time.perf_counter()
        align_faces.align(align_faces.Config(photos=str(folder), out_dir=str(out_dir)))
        seconds = time.perf_counter() - start
        photos = CelebADataset(folder, None)
        found = {}  # of each photo: the errors of its eyes, and the PSNR
        for row in read_table(out_dir / "faces.csv", photos):
            if not row["file"]:
                continue
            number = int(Path(row["photo"]).stem)
            turn, shift = places[number]
            new_turn, new_shift = frame_of(points_in(row))
            off = abs(new_turn * (turn * EYES + shift) + new_shift - EYES)
            if off.max() < FAR:
                ours = Image.open(out_dir / row["file"])
                found[number] = [*off, psnr(ours, original(faces, config, number))]
        if not found:
            raise RunError(f"no face of {config.data_dir} was found again; name aligned faces.")
        parts = where_the_time_goes(photos, photos.names[:50])

    print(f"{describe_machine()}; {config.photos:,} photos of {config.side} x {config.side}\n")
    rows = []
    for name, numbers in {
        "plain": range(0, config.photos, 2),
        "noise": range(1, config.photos, 2),
        "all": range(config.photos),
    }.items():
        figures = np.array([found[number] for number in numbers if number in found]).reshape(-1, 3)
        eyes = figures[:, :2]
        share = 100 * len(figures) / len(numbers)
        rows.append([name, share, np.median(eyes), np.percentile(eyes, 95), figures[:, 2].mean()])
    print_table(["", "found, %", "eyes off, median px", "95th percentile px", "PSNR, dB"], rows)
    print(f"\n{config.photos / seconds:.1f} photos/s, the start of the processes counted")
    told = ", ".join(f"{part} {milliseconds:.0f} ms" for part, milliseconds in parts.items())
    print(f"Processor time of a photo: {told}")
    largest = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"Memory of the largest process: {largest / 1024:.0f} MB")


if __name__ == "__main__":
    run(main, Config)
