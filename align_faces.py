"""Find the faces in your photos and cut them out framed as CelebA's are, to train on.

python align_faces.py --photos my_photos                       # a folder (with sub-folders) or a .zip
python align_faces.py --photos my_photos --out-dir data/family
python gan_demo.py --data-dir data/my_faces                    # trains on them
python align_faces.py --help                                   # all constants below are also flags

It needs a face detector beside the rest: pip install -r requirements-faces.txt
"""

import signal

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import csv
import hashlib
import io
import os
import re
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from PIL import Image, ImageDraw, ImageFilter

from common_tools import RunError, run_as_script
from machinery.console import Stopped, catch_signals, progress_bar, quoted
from machinery.constants import Count, Place, Share, check_ranges
from machinery.files import atomic_write, writing
from machinery.image_files import FACES_TABLE, OVERVIEW, counts, listed, why
from machinery.pictures import save_picture
from machinery.processes import map_in_processes
from my_dataset import CelebADataset


@dataclass
class Config:
    """Align faces. Every constant can be edited in align_faces.py or given as a flag."""

    photos: Place = ""  # folder or .zip of photos
    out_dir: Place = "data/my_faces"  # where the faces go, with faces.csv and overview.png

    # --- which faces are left out
    min_size: Count = 64  # leave out faces whose frame is fewer pixels of the photo wide
    min_sharpness: Share = 0.05  # leave out faces with a smaller share of fine details (0: none)
    max_turn: Share = 0.5  # leave out faces whose nose is more eye distances off (1: none)


# Points are complex numbers, x + iy in pixels, so that a similarity transform (a turn, a scale, a
# shift) is z -> turn * z + shift with two of them. A face is five: its eyes, nose and corners of the
# mouth, from left to right.
FRAME = (178, 218)  # pixels of a face's picture, as CelebA's aligned images have
TEMPLATE = np.array([69.5 + 111.8j, 108.5 + 111.8j, 89 + 135.9j, 71.7 + 152.9j, 106.3 + 152.9j])
# TEMPLATE is where find_points sees these five in CelebA's own images, in the mean of 1,000. As
# that is how its images were aligned, the eyes count most; the nose moves when a head is turned.
WEIGHTS = np.array([3, 3, 0.1, 1, 1])

SIGHT = 16  # pixels to which the narrowest face wanted is reduced: the detector still sees it
SURE = 0.7  # how certain a face must be; of CelebA's all but one in 1,000 are
VIEWS = (88, 100, 112)  # sides of the squares of FRAME, around FACE, in which points are looked for
FACE = (89, 121)
SAVE_EVERY = 1  # seconds from one faces.csv to the next; a kill costs the work of so long
COLUMNS = ["file", "photo"] + [
    f"{point}_{axis}"
    for point in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    for axis in "xy"
]
COLUMNS += ["left_out", "bytes"]  # why; and how large the photo is, to tell it from another one


# --- from a photo to faces


@lru_cache(maxsize=1)
def detector():
    """The three nets of MTCNN (Zhang et al. 2016, arXiv:1604.02878).

    Raises RunError where facenet-pytorch is not installed.
    """
    try:
        from facenet_pytorch import MTCNN  # its weights lie in the package
    except ImportError as error:
        raise RunError(
            f"a face detector is needed ({error}); install it: pip install -r requirements-faces.txt."
        ) from error
    return MTCNN(min_face_size=SIGHT, keep_all=True)


@contextmanager
def without_onednn():
    """Inside the block PyTorch computes without oneDNN, which keeps code for each size of picture:
    with photos of many sizes memory would grow by a third."""
    before, torch.backends.mkldnn.enabled = torch.backends.mkldnn.enabled, False
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


@without_onednn()
def find_faces(photo, min_size=Config.min_size):
    """The faces of a photo, a PIL image (RGB): (points, certainty) of each, the most certain first.

    points: five complex numbers, in pixels of the photo. min_size: pixels; narrower frames may
    be missed. MTCNN finds the faces in a small version of the photo, its last net their points once
    more in the face as it is cut out: all faces are seen alike there, so its errors are alike too.
    """
    narrowest = min_size * VIEWS[1] / FRAME[0]
    scale = min(1, SIGHT / narrowest)
    small = photo.resize(
        [max(1, round(side * scale)) for side in photo.size],
        Image.Resampling.BILINEAR,
        reducing_gap=2,
    )
    if min(small.size) < SIGHT:
        return []
    _, _, found = detector().detect(small, landmarks=True)
    faces = []
    for xy in [] if found is None else found:
        points = (xy[:, 0] + 1j * xy[:, 1]) * photo.width / small.width
        for _ in range(2):
            turn, shift = frame_of(points)
            points, certainty = find_points(cut(photo, turn, shift))
            points = (points - shift) / turn
        if certainty > SURE:
            faces.append((points, certainty))
    return sorted(faces, key=lambda face: -face[1])


def aligned(photo):
    """The faces of a photo, a PIL image (RGB), each cut out as CelebA's are, the largest first.

    Raises RunError where facenet-pytorch is not installed.
    """
    frames = [frame_of(points) for points, _ in find_faces(photo)]
    return [cut(photo, *frame) for frame in sorted(frames, key=lambda frame: abs(frame[0]))]


@torch.no_grad()
def find_points(face):
    """The five points in a face that is about in its frame, and how certain it is one, from 0 to 1.

    The means of what MTCNN's last net sees in some squares and in their mirror images.
    """
    pixels = torch.tensor(np.asarray(face)).permute(2, 0, 1)[None].float().sub(127.5).div(128)
    views = []
    for side in VIEWS:
        left, top = (middle - side // 2 for middle in FACE)
        square = pixels[:, :, top : top + side, left : left + side]
        views.append(F.interpolate(square, size=(48, 48), mode="area"))
    views = torch.cat(views)
    _, seen, certainty = detector().onet(torch.cat([views, views.flip(3)]))
    seen = seen.double().numpy()
    points = seen[:, :5] - 0.5 + 1j * (seen[:, 5:] - 0.5)
    plain, mirrored = np.split(points, 2)
    mirrored = -mirrored.conj()[:, [1, 0, 2, 4, 3]]
    points = (plain + mirrored) / 2 * np.array(VIEWS)[:, None]
    return points.mean(0) + complex(*FACE), float(certainty[:, 1].mean())


def frame_of(points):
    """The similarity transform, (turn, shift), that takes a face's points nearest to TEMPLATE."""
    weights = WEIGHTS / WEIGHTS.sum()
    middle, target = weights @ points, weights @ TEMPLATE
    spread = points - middle
    turn = weights @ (spread.conj() * (TEMPLATE - target)) / (weights @ abs(spread) ** 2)
    return turn, target - turn * middle


def cut(photo, turn, shift):
    """What a similarity transform brings into the frame, as a PIL image of FRAME pixels.

    Beyond the photo its edge is mirrored, the softer the farther outside.
    """
    corners = np.array([x + 1j * y for x in (0, FRAME[0]) for y in (0, FRAME[1])])
    corners = (corners - shift) / turn
    size, margin = np.array(photo.size), 3 + 3 / abs(turn)
    low = np.floor([corners.real.min() - margin, corners.imag.min() - margin]).astype(int)
    high = np.ceil([corners.real.max() + margin, corners.imag.max() + margin]).astype(int)
    inner_low, inner_high = low.clip(0, size - 1), high.clip(1, size)
    scale = min(1, abs(turn))  # a larger face is reduced first: the anti-aliasing
    reduced = np.ceil((inner_high - inner_low) * scale).astype(int)
    ratio = reduced / (inner_high - inner_low)
    part = photo.resize(reduced, Image.Resampling.LANCZOS, (*inner_low, *inner_high), 3)
    before = np.ceil((inner_low - low) * ratio).astype(int).clip(0)
    after = np.ceil((high - inner_high) * ratio).astype(int).clip(0)
    if before.any() or after.any():
        beyond = [(before[1], after[1]), (before[0], after[0]), (0, 0)]
        part = Image.fromarray(np.pad(np.asarray(part), beyond, "symmetric"))

    # PIL asks where a pixel of the frame comes from: in the photo, then in its reduced part
    back, start = 1 / turn, -shift / turn
    matrix = np.array([[back.real, -back.imag, start.real], [back.imag, back.real, start.imag]])
    in_part = matrix.copy()
    in_part[:, 2] -= inner_low
    in_part = in_part * ratio[:, None]
    in_part[:, 2] += before
    face = part.transform(FRAME, Image.Transform.AFFINE, in_part.ravel(), Image.Resampling.BICUBIC)
    if before.any() or after.any():
        x, y = np.meshgrid(*(np.arange(side) + 0.5 for side in FRAME))
        places = matrix @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
        outside = np.maximum(-places, places - size[:, None]).max(0).clip(0) * abs(turn)
        softness = (outside.reshape(x.shape) * 16).clip(0, 255).astype(np.uint8)
        soft = face.filter(ImageFilter.GaussianBlur(6))
        face = Image.composite(soft, face, Image.fromarray(softness))
    return face


# --- which faces are left out


def sharpness(face):
    """Which share of a cut-out face's contrast is lost when it is reduced to a fourth."""
    gray = face.convert("L").crop((45, 67, 133, 187))
    coarse = gray.reduce(4).resize(gray.size, Image.Resampling.BICUBIC)
    gray, coarse = (np.asarray(image, np.float32) for image in (gray, coarse))
    return float((gray - coarse).std() / max(gray.std(), 1))


def turn_of(points):
    """How many eye distances the nose is off the middle of eyes and mouth: some 0.5 in profile."""
    across = points[1] - points[0]
    return abs(((points[2] - points[[0, 1, 3, 4]].mean()) / across).real)


def why_left_out(points, face, others, config):
    """The reason to leave a face out; "" for none. others: points of faces found before it."""
    turn, _ = frame_of(points)
    if any(abs(other.mean() - points.mean()) < abs(other[1] - other[0]) for other in others):
        return "found twice"
    if FRAME[0] / abs(turn) < config.min_size:
        return "too small"
    if turn_of(points) > config.max_turn:
        return "turned away"
    if sharpness(face) < config.min_sharpness:
        return "too blurred"
    return ""


# --- many photos


def align(config: Config) -> Path:
    """Align the faces of all photos that faces.csv does not have yet. Returns out_dir.

    Raises RunError, with a sentence for the user, for bad input. SIGINT (Ctrl-C), SIGTERM and SIGHUP
    save what is done and end in SystemExit(130, 143 or 129).
    """
    check_ranges(config)
    detector()  # says what to install before anything is done
    folder, table = Path(config.out_dir), Path(config.out_dir, FACES_TABLE)
    photos = CelebADataset(config.photos, None, called="photos")
    if folder.resolve().is_relative_to(photos.data_dir.resolve()):
        raise RunError(
            f"out_dir {folder} lies in photos {photos.data_dir}, so its faces would be photos the "
            "next time; name another place for one of them."
        )
    rows = read_table(table, photos)
    rows = [row for row in rows if not row["left_out"].startswith("not readable")]  # by now, maybe
    done = {row["photo"] for row in rows}
    todo = [name for name in photos.names if name not in done]
    if photos.passed_over:
        print(
            f"Passed over in {photos.data_dir}: {counts(photos.passed_over)}; convert them to use "
            "them too."
        )
    twins = same_photos(photos, [*filter(done.__contains__, photos.names), *todo])
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_table(table, rows)
    due = time.monotonic() + SAVE_EVERY
    work = partial(align_photos, photos, twins, config)
    bar = progress_bar(len(photos), len(photos) - len(todo), "photos")
    with catch_signals() as caught, bar:
        for results in map_in_processes(work, todo, 4):
            for found, pictures in results:
                for name, png in pictures:  # one cut short by a kill has no row yet: done again
                    with writing(folder / name):
                        (folder / name).write_bytes(png)
                rows += [row | {"bytes": bytes_of(photos, row)} for row in found]
            bar.update(len(results))
            if time.monotonic() > due:
                write_table(table, rows)
                due = time.monotonic() + SAVE_EVERY
            if caught:
                break
    write_table(table, rows)
    if caught:
        print(f"Stopped; what is done is saved in {folder}. The same command goes on.")
        raise Stopped(128 + caught[0])
    save_overview(photos, rows, folder)
    report(photos, rows, folder)
    return folder


def same_photos(photos, names):
    """Which of these photos have the same bytes as an earlier one of them: {name: that one's}."""
    sizes = Counter(size for size, *_ in photos.files.values())
    seen, twins = {}, {}
    for name in names:
        if sizes[photos.files[name][0]] > 1:
            with suppress(Exception):  # one that cannot be read is said to be so later
                content = hashlib.sha256(photos.read(name)).digest()
                if (first := seen.setdefault(content, name)) != name:
                    twins[name] = first
    return twins


def align_photos(photos, twins, config, names):
    """Of each photo: its rows of faces.csv, and (file, PNG) of each face that is kept."""
    return [align_photo(photos, twins, config, name) for name in names]


def align_photo(photos, twins, config, name):
    if name in twins:
        return [row_of(name, left_out=f"same photo: {twins[name]}")], []
    try:
        photo = photos.load_image(name)
    except RunError as error:
        reason = ", ".join(filter(None, why(error.__cause__)))
        return [row_of(name, left_out=f"not readable: {reason}")], []
    rows, pictures, before = [], [], []
    for points, _ in find_faces(photo, config.min_size):
        face = cut(photo, *frame_of(points))
        left_out = why_left_out(points, face, before, config)
        file = "" if left_out else f"{label(name)}-{len(pictures) + 1}.png"
        rows.append(row_of(name, points, file, left_out))
        before.append(points)
        if file:
            png = io.BytesIO()
            face.save(png, "PNG")
            pictures.append((file, png.getvalue()))
    return rows or [row_of(name, left_out="no face in the photo")], pictures


def label(name):
    """A photo's path as the beginning of a file's name; no two photos have the same."""
    plain = re.sub(r'[\\/:*?"<>|\s]', "_", name)[-50:]
    plain = re.sub(r"^\.+", "_", plain)  # a dot would hide the face from training
    return (
        plain if plain == name else f"{plain}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
    )


def row_of(photo, points=None, file="", left_out=""):
    xy = [""] * 10 if points is None else np.stack([points.real, points.imag], 1).ravel().round(2)
    return dict(zip(COLUMNS, [file, photo, *map(str, xy), left_out]))


def points_in(row):
    """The five points in a row of faces.csv; None if it is of a photo as a whole."""
    xy = np.array([float(row[column] or "nan") for column in COLUMNS[2:12]])
    return None if np.isnan(xy).all() else xy[::2] + 1j * xy[1::2]


# --- faces.csv and overview.png


def read_table(path, photos):
    """The rows of faces.csv, none if it is not there yet. Raises RunError where it is of others."""
    folder = path.parent
    if not path.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise RunError(
                f"out_dir {folder} has files in it but no {path.name}; name a new folder."
            )
        return []
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file, strict=True))
        rows = [{"bytes": ""} | row for row in rows]  # which older tables lack
        if any({*row} != {*COLUMNS} or None in row.values() for row in rows):
            raise ValueError("other columns")
        for row in rows:
            points_in(row)
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path} cannot be read ({error}); name a new out_dir.") from error
    if rows and not {row["photo"] for row in rows} & {*photos.names}:
        raise RunError(f"{path} is of other photos than {photos.data_dir}; name a new out_dir.")
    known = [row for row in rows if row["bytes"] and row["photo"] in photos.files]
    known = [row for row in known if not row["left_out"].startswith("not readable")]
    others = [row["photo"] for row in known if row["bytes"] != bytes_of(photos, row)]
    if len(others) > len(known) / 2:  # not just a few that were edited since
        raise RunError(
            f"{path} is of other photos than {photos.data_dir} has by the same names, as {others[0]}; "
            "name a new out_dir."
        )
    return rows


def bytes_of(photos, row):
    """How large the photo of a row is, as faces.csv has it."""
    return str(photos.files[row["photo"]][0])


def write_table(path, rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))


def save_overview(photos, rows, folder, count=64, columns=8):
    """Draw the first faces, and beside them the first that are left out with their reasons."""
    kept, others = [], []
    for row in rows:
        if row["file"] and len(kept) < count:
            with suppress(OSError):  # taken away meanwhile
                kept.append((Image.open(folder / row["file"]).convert("RGB"), ""))
        elif row["left_out"] and points_in(row) is not None and len(others) < count:
            with suppress(RunError):  # taken away meanwhile
                photo = photos.load_image(row["photo"])
                face = cut(photo, *frame_of(points_in(row)))
                others.append((face, row["left_out"]))
    width, height, line = FRAME[0] // 2, FRAME[1] // 2, 14
    tall = max(1, -(-max(len(kept), len(others)) // columns))
    sheet = Image.new("RGB", (width * columns * 2 + line, (height + line) * tall + line), "white")
    draw = ImageDraw.Draw(sheet)
    for left, title, faces in ((0, "faces", kept), (width * columns + line, "left out", others)):
        draw.text((left + 2, 1), title, "black")
        for number, (face, reason) in enumerate(faces):
            x, y = left + number % columns * width, line + number // columns * (height + line)
            sheet.paste(face.resize((width, height), Image.Resampling.BOX), (x, y))
            draw.text((x + 2, y + height + 1), reason, "black")
    save_picture(sheet, folder / OVERVIEW)


def report(photos, rows, folder):
    """Say in one line how many faces there are, and how many are left out for which reason."""
    reasons = [row["left_out"].partition(": ") for row in rows if row["left_out"]]
    left_out = Counter(kind for kind, _, _ in reasons)
    unreadable = {
        row["photo"]: (row["left_out"].partition(": ")[2], "")
        for row in rows
        if row["left_out"].startswith("not readable")
    }
    if unreadable:
        print(f"Not readable in {photos.data_dir}: {listed(unreadable)}.")
    told = ", ".join(f"{count:,} {kind}" for kind, count in left_out.most_common())
    kept = sum((folder / row["file"]).is_file() for row in rows if row["file"])
    all_photos = len({row["photo"] for row in rows})
    print(
        f"{kept:,} faces of {all_photos:,} photos are in {folder}; left out: {told or 'none'} "
        f"({folder / FACES_TABLE}, {folder / OVERVIEW})."
    )
    if kept:
        print(f"Train on them with: python gan_demo.py --data-dir {quoted(folder)}")


def main():
    align(tyro.cli(Config))


if __name__ == "__main__":
    run_as_script(main)
