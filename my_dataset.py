"""Faces from a folder or a zip: one image at a time, or packed into one array to train on."""

import hashlib
import io
import os
import warnings
import zlib
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from drawings.faces import draw_faces
from drawings.people import draw_clothes, draw_poses
from machinery.console import RunError
from machinery.image_files import (
    EXTENSIONS,
    OTHER_EXTENSIONS,
    BadImage,
    counts,
    ending,
    folder_files,
    is_hidden,
    is_overview,
    listed,
    why,
)
from machinery.packing import KEPT, open_packed, pack, remove_older
from machinery.processes import first_on_each_machine

CELEBA_DIR = "data/img_align_celeba"  # where CelebA is looked for when nothing else is named
CELEBA_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
DRAWN_FACES = "data/drawn_faces.zip"
MANY_FACES = "data/drawn_faces_8000.zip"
DRAWN_CLOTHES = "data/drawn_clothes.zip"
DRAWN_POSES = "data/drawn_poses.zip"
# What is drawn on first use
DRAWN = {
    DRAWN_FACES: draw_faces, MANY_FACES: partial(draw_faces, count=8000),
    DRAWN_CLOTHES: draw_clothes, DRAWN_POSES: draw_poses,
}  # fmt: skip
MAX_FILE = 2**28  # bytes of an image file, unpacked: larger ones are not read into memory
PACKING = 3  # to be counted up when load_image, resize_and_crop or the packed file changes


def face_transform(image_size=64, nc=3):
    """The chapter's transform: PIL image -> tensor (nc, image_size, image_size) in [-1, 1].

    Training takes resize_and_crop instead: the same pixels, kept as bytes until a batch needs them.
    """
    from torchvision import transforms  # takes as long to load as torch; training does without

    return transforms.Compose(
        [
            transforms.Resize(image_size),  # the shorter side
            transforms.CenterCrop(image_size),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * nc, [0.5] * nc),
        ]
    )


def resize_and_crop(image, image_size):
    """Resize and CenterCrop of face_transform: the same pixels, without torchvision's detours.

    Its results are kept in the cache: count PACKING up when you change it.
    """
    short = min(image.size)
    width, height = (int(image_size * side / short) for side in image.size)
    left, top = round((width - image_size) / 2), round((height - image_size) / 2)
    if max(width, height) > 100 * image_size:  # a line: as a whole it would need too much memory
        across, down = (left, left + image_size), (top, top + image_size)
        (left, right), (top, bottom) = (
            [place * side / resized for place in places]
            for places, side, resized in [
                (across, image.width, width),
                (down, image.height, height),
            ]
        )
        box = left, top, right, bottom
        return image.resize((image_size, image_size), Image.Resampling.BILINEAR, box=box)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + image_size, top + image_size))


def resize_pair(image, image_size):
    """The halves of an image, side by side, each stretched to a square: uint8 (image_size,
    image_size, 6), the left one's channels first."""
    middle, (width, height) = image.width / 2, image.size
    boxes = (0, 0, middle, height), (middle, 0, width, height)
    size = (image_size, image_size)
    halves = [image.resize(size, Image.Resampling.BILINEAR, box=box) for box in boxes]
    return np.concatenate(halves, axis=2)


class CelebADataset(Dataset):
    """The images of a folder (with its sub-folders) or of a zip, in sorted order, without labels.

    data_dir: the folder or the .zip, which is read as it is, or one image file. What an unzip tool
        leaves behind (__MACOSX, dot-files) is passed over; links to folders are followed, see
        folder_files.
    transforms: a function of a PIL image, such as face_transform(); its result is the item.
    nc: 3 hands it RGB images, 1 gray ones, whatever the files are.
    called: the constant that names data_dir, for the sentences.

    `files` maps each image's path inside data_dir to its size in bytes and, in a folder, its time
    ("path/" is a folder that cannot be opened: an image that cannot be read);
    `names` lists the paths: shorten it to use fewer of them. `passed_over` counts the images of
    formats that are not read, by their endings.
    Raises RunError where data_dir does not exist, is no zip, cannot be read, or has no images.
    """

    def __init__(self, data_dir, transforms, nc=3, called="data_dir"):
        self.data_dir, self.called = Path(data_dir), called
        self.transforms = transforms
        self.mode = {1: "L", 3: "RGB"}[nc]
        self._zip, self._zip_process = None, None
        if not self.data_dir.exists():
            raise RunError(f"{called} {data_dir} does not exist; name a folder or .zip of images.")
        one = self.data_dir.is_file() and ending(self.data_dir.name) in EXTENSIONS
        self.in_zip = self.data_dir.is_file() and not one
        if one:
            stat = self.data_dir.stat()
            found = [(self.data_dir.name, (stat.st_size, stat.st_mtime_ns))]
            self.data_dir = self.data_dir.parent
        else:
            found = self._zip_files() if self.in_zip else folder_files(self.data_dir, called)
        self.files, self.passed_over = {}, Counter()
        found = dict(sorted(found))
        for name, stat in found.items():
            if is_overview(name, found):
                continue
            if (kind := ending(name)) in OTHER_EXTENSIONS:
                self.passed_over[kind] += 1
            elif kind in EXTENSIONS or kind == "/":  # reading that says why
                self.files[name] = stat
        self.names = list(self.files)
        if not self.names:
            endings = ", ".join(sorted(EXTENSIONS))
            others = f"; passed over: {counts(self.passed_over)}" if self.passed_over else ""
            raise RunError(f"{called} {data_dir} has no images in it ({endings}{others}).")

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return self.transforms(self.load_image(self.names[index]))

    def load_image(self, name):
        """Decode one image file, by its path inside data_dir, to a PIL image of nc channels.

        Raises RunError where it cannot be read.
        """
        try:
            return decode_image(self.read(name), self.mode)
        except Exception as error:  # Pillow raises many kinds for a broken file
            reason = ": ".join(filter(None, why(error)))
            raise RunError(f"{self.data_dir / name} is not a readable image ({reason}).") from error

    def can_read(self, name):
        """Whether load_image reads this file."""
        try:
            return bool(self.load_image(name))
        except RunError:
            return False

    def fingerprint(self):
        """A number that tells this set of images from others, by their names and file sizes."""
        sizes = [self.files[name][0] for name in self.names]
        return zlib.crc32(repr([self.names, sizes]).encode())

    def read(self, name):
        """The bytes of one image file. Raises BadImage, or what the system or zipfile raise."""
        size = self.files[name][0]
        if name.endswith("/"):
            raise BadImage("folder that cannot be opened")
        if size > MAX_FILE:
            raise BadImage(f"larger than {MAX_FILE >> 20} MB", f"{-(-size >> 20):,} MB")
        data = self._read_zip(name) if self.in_zip else (self.data_dir / name).read_bytes()
        if not data:
            raise BadImage("empty")
        return data

    def _read_zip(self, name):
        archive = self._open_zip()
        if archive.getinfo(name).flag_bits & 1:
            raise BadImage("encrypted")
        try:
            return archive.read(name)
        except (BadZipFile, EOFError, zlib.error) as error:
            raise BadImage("damaged in the zip") from error

    def _zip_files(self):
        for info in self._open_zip().infolist():
            if not info.is_dir() and not is_hidden(info.filename):
                yield info.filename, (info.file_size,)

    def _open_zip(self):
        # Each process needs a file handle of its own: a forked one would share the read position.
        if self._zip_process != os.getpid():
            try:
                self._zip, self._zip_process = ZipFile(self.data_dir), os.getpid()
            except PermissionError:  # its own sentence
                raise
            except (BadZipFile, OSError) as error:
                reason = getattr(error, "strerror", None) or error
                advice = "download it again, or name a folder or another .zip"
                if drawing(self.data_dir):
                    advice = "delete it, and it is drawn again"
                raise RunError(
                    f"{self.called} {self.data_dir} cannot be opened as a zip ({reason}); {advice}."
                ) from error
        return self._zip

    def __getstate__(self):  # what a spawned worker process gets
        return {**self.__dict__, "_zip": None, "_zip_process": None}


def decode_image(data, mode="RGB"):
    """An image file's bytes -> an upright PIL image of that mode (RGB or L), on white.

    Raises what Pillow does for a broken one, or BadImage; why() says it in words.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of large or odd files that it reads
        # Decoding from memory takes Pillow two thirds of the time that an open file does.
        image = Image.open(io.BytesIO(data))
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode[0] in "IF":  # 16-bit gray, which convert would cut off at 255
            if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
                raise BadImage("of 32-bit or signed pixels")  # where is white?
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.has_transparency_data:  # else hidden colours would show
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        image.load()
        return image if image.mode == mode else image.convert(mode)


def find_apart(data_dir, out_dir, called="data_dir"):
    """What find_images(data_dir) gives. Raises RunError where out_dir lies in it; called: the constant
    that names it."""
    source = find_images(data_dir)
    if Path(os.path.realpath(out_dir)).is_relative_to(os.path.realpath(source)):
        raise RunError(
            f"out_dir {out_dir} lies in {called} {source}, so the next run would train on the "
            "pictures of this one; name another place for one of them."
        )
    return source


@first_on_each_machine()
def find_images(data_dir):
    """The folder or zip to train on: data_dir, or what stands in for CelebA where that is missing.

    That is CelebA's zip, else drawn faces. Another data_dir is never replaced, but one of DRAWN is
    drawn where it is missing.
    """
    if data_dir == CELEBA_DIR and not Path(data_dir).exists():
        if Path(f"{data_dir}.zip").exists():
            return f"{data_dir}.zip"
        print(
            f"No CelebA at {CELEBA_DIR} or {CELEBA_DIR}.zip (get img_align_celeba.zip from "
            f"{CELEBA_PAGE} and put it there); going on with drawn faces.",
            flush=True,
        )
        data_dir = DRAWN_FACES
    if not Path(data_dir).exists() and (draw := drawing(data_dir)):
        draw(data_dir)
    return data_dir


def drawing(data_dir):
    """The function of DRAWN that draws data_dir; None where nothing does."""
    return {Path(drawn).absolute(): DRAWN[drawn] for drawn in DRAWN}.get(Path(data_dir).absolute())


# --- packed images


@first_on_each_machine()
def load_faces(
    data_dir, cache_dir, image_size=64, nc=3, max_images=0, skip_bad_images=False, called="data_dir"
):
    """The first max_images images of data_dir (0: all), cropped and packed into one array.

    The first call decodes them, later ones only open the file in cache_dir. Its name depends on
    what decides its content: the place, names, sizes and times of the images (of a zip, the zip's),
    max_images, image_size and nc. Of the files that one folder or zip has there, the KEPT used last
    stay, whatever their image_size and nc. called: the constant that names data_dir, for the sentences.

    Returns the images, uint8 (N, image_size, image_size, nc), memory-mapped, with the pixels of
    face_transform before ToTensor, or for nc 6 those of resize_pair; and their
    CelebADataset.fingerprint().
    Raises RunError where an image cannot be read, unless skip_bad_images leaves it out and says so,
    and for what CelebADataset and atomic_write raise.
    """
    crop = partial(resize_pair if nc == 6 else resize_and_crop, image_size=image_size)
    source = Path(data_dir)
    opened = partial(CelebADataset, source, crop, min(nc, 3), called)
    if source.is_file():  # listing a zip of CelebA's size takes longer than all the rest of this
        dataset, stat = None, source.stat()
        content = [stat.st_size, stat.st_mtime_ns]
    else:
        dataset = opened()
        content = dataset.files
    key = repr([PACKING, os.path.realpath(source), content, max_images, image_size, nc])
    name = (
        f"{source.stem[:50]}-{image_size}x{nc}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    )
    path = Path(cache_dir) / name
    try:
        images, about = open_packed(path)
        if about["unreadable"]:
            dataset = dataset or opened()
            if mended := [name for name in about["unreadable"] if dataset.can_read(name)]:
                raise ValueError(f"lacks {len(mended)} that can be read by now, as {mended[0]}")
        with suppress(OSError):  # of another user, or on a disk that is read-only
            os.utime(path)  # used now
    except PermissionError:  # another user's: nothing is damaged
        raise
    except (OSError, ValueError) as error:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            print(f"{path} is damaged or of other images ({error}); packing again.", flush=True)
        dataset = dataset or opened()
        dataset.names = dataset.names[: max_images or None]
        pack(dataset, path, image_size, nc)
        images, about = open_packed(path)
        if removed := remove_older(path, about["source"]):
            print(
                f"Removed {', '.join(removed)} from {cache_dir}; of one folder or zip the {KEPT} "
                "packed files used last are kept.",
                flush=True,
            )
    # A packed file knows it of a zip, which is as it was; a folder may have got others since.
    if passed_over := dataset.passed_over if dataset else about["passed_over"]:
        print(
            f"Passed over in {data_dir}: {counts(passed_over)}; convert them to use them too.",
            flush=True,
        )
    if bad := about["unreadable"]:
        count = len(images) + len(bad)
        found = f"{len(bad)} of {count} images in {data_dir} cannot be read: {listed(bad)}"
        if not skip_bad_images:
            raise RunError(
                f"{found}; mend them or, for a new run, remove them or leave them out with "
                "--skip-bad-images."
            )
        print(f"{found}; going on without them.", flush=True)
    return images, about["fingerprint"]
