"""Faces from a folder or a zip, one image at a time."""

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

import numpy as np
from PIL import Image, ImageOps
from torch.utils.data import Dataset
from torchvision import transforms
from tqdm import tqdm

from common_tools import RunError
from drawn_faces import draw_faces

CELEBA_DIR = "data/img_align_celeba"  # where CelebA is looked for when nothing else is named
CELEBA_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
DRAWN_FACES = "data/drawn_faces.zip"  # drawn on first use
EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def face_transform(image_size=64, nc=3):
    """The chapter's transform: PIL image -> tensor (nc, image_size, image_size) in [-1, 1]."""
    return transforms.Compose(
        [
            transforms.Resize(image_size),  # the shorter side
            transforms.CenterCrop(image_size),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * nc, [0.5] * nc),
        ]
    )


class CelebADataset(Dataset):
    """The images of a folder (with its sub-folders) or of a zip, in sorted order, without labels.

    data_dir: the folder or the .zip, which is read as it is. What an unzip tool leaves behind
        (__MACOSX, dot-files) is passed over.
    transforms: a function of a PIL image, such as face_transform(); its result is the item.
    nc: 3 hands it RGB images, 1 gray ones, whatever the files are.

    `names` holds the images' paths inside data_dir; shorten it to use fewer of them.
    Raises RunError where data_dir does not exist, is no zip, cannot be read, or has no images.
    """

    def __init__(self, data_dir, transforms, nc=3):
        self.data_dir = Path(data_dir)
        self.transforms = transforms
        self.mode = {1: "L", 3: "RGB"}[nc]
        self._zip, self._zip_process = None, None
        if not self.data_dir.exists():
            raise RunError(f"data_dir {data_dir} does not exist; name a folder or .zip of images.")
        self.in_zip = self.data_dir.is_file()
        self.names = sorted(filter(is_image, self._all_names()))
        if not self.names:
            endings = ", ".join(sorted(EXTENSIONS))
            raise RunError(f"data_dir {data_dir} has no images in it ({endings}).")

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return self.transforms(self.load_image(self.names[index]))

    def load_image(self, name):
        """Decode one image file, by its path inside data_dir, to a PIL image of nc channels.

        Raises RunError where it cannot be read.
        """
        try:
            with self._open(name) as file:
                image = Image.open(file)
                ImageOps.exif_transpose(image, in_place=True)
                if image.has_transparency_data:  # else hidden colours would show
                    image = image.convert("RGBA")
                    white = Image.new("RGBA", image.size, "white")
                    image = Image.alpha_composite(white, image)
                return image.convert(self.mode)
        except Exception as error:  # Pillow raises many kinds for a broken file
            raise RunError(f"{self.data_dir / name} is not a readable image ({error}).") from error

    def unreadable(self):
        """Decode every image once. Returns the names of those that cannot be read."""

        def check(name):
            try:
                self.load_image(name)
            except RunError:
                return name

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside Python's lock
            checks = pool.map(check, self.names)
            bar = tqdm(checks, "checking images", len(self), leave=False, disable=None)
            return [name for name in bar if name]

    def fingerprint(self):
        """A number that tells this set of images from others, by their names and file sizes."""
        if self.in_zip:
            sizes = [self._open_zip().getinfo(name).file_size for name in self.names]
        else:
            sizes = [(self.data_dir / name).stat().st_size for name in self.names]
        return zlib.crc32(repr([self.names, sizes]).encode())

    def _all_names(self):
        if self.in_zip:
            return [info.filename for info in self._open_zip().infolist() if not info.is_dir()]
        return [
            Path(folder, file).relative_to(self.data_dir).as_posix()
            for folder, _, files in os.walk(self.data_dir)
            for file in files
        ]

    def _open(self, name):
        return self._open_zip().open(name) if self.in_zip else (self.data_dir / name).open("rb")

    def _open_zip(self):
        # Each process needs a file handle of its own: a forked one would share the read position.
        if self._zip_process != os.getpid():
            try:
                self._zip, self._zip_process = ZipFile(self.data_dir), os.getpid()
            except (BadZipFile, OSError) as error:
                raise RunError(
                    f"data_dir {self.data_dir} cannot be opened as a zip ({error}); "
                    "download it again, or name a folder or another .zip."
                ) from error
        return self._zip

    def __getstate__(self):  # what a spawned worker process gets
        return {**self.__dict__, "_zip": None, "_zip_process": None}


def is_image(name):
    """Whether a path inside a data folder or zip names an image, and not an unzip tool's rest."""
    path = PurePosixPath(name)
    hidden = any(part == "__MACOSX" or part.startswith(".") for part in path.parts)
    return path.suffix.lower() in EXTENSIONS and not hidden


class EpochOrder:
    """Batches of indices for DataLoader(batch_sampler=...): all images once an epoch, shuffled.

    The order depends on seed and epoch alone, so a run can go on in the middle of an epoch. The
    last, short batch is left out; as the order changes, so do the images in it.
    """

    def __init__(self, num_images, batch_size, seed):
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self.start(epoch=0)

    def start(self, epoch, iteration=0):
        """Set where the next pass begins."""
        self.epoch, self.iteration = epoch, iteration

    def __len__(self):
        """Iterations in a whole epoch."""
        return self.num_images // self.batch_size

    def __iter__(self):
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_images)
        for iteration in range(self.iteration, len(self)):
            first = iteration * self.batch_size
            yield order[first : first + self.batch_size].tolist()


def find_images(data_dir):
    """The folder or zip to train on: data_dir, or what stands in for CelebA where that is missing.

    That is CelebA's zip, else faces drawn on first use. Another data_dir is never replaced.
    """
    if data_dir == CELEBA_DIR and not Path(data_dir).exists():
        if Path(f"{data_dir}.zip").exists():
            return f"{data_dir}.zip"
        print(
            f"No CelebA at {CELEBA_DIR} or {CELEBA_DIR}.zip (get img_align_celeba.zip from "
            f"{CELEBA_PAGE} and put it there); training on drawn faces.",
            flush=True,
        )
        data_dir = DRAWN_FACES
    if data_dir == DRAWN_FACES and not Path(data_dir).exists():
        draw_faces(data_dir)
    return data_dir


def load_faces(data_dir, image_size, nc, max_images=0, skip_bad_images=False):
    """The CelebADataset of data_dir's first max_images images (0: all), each of them readable.

    Raises RunError where one is not, unless skip_bad_images leaves it out and says so.
    """
    dataset = CelebADataset(data_dir, face_transform(image_size, nc), nc)
    if max_images:
        dataset.names = dataset.names[:max_images]
    if bad := dataset.unreadable():
        named = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
        found = f"{len(bad)} of {len(dataset)} images in {data_dir} cannot be read ({named})"
        if not skip_bad_images:
            raise RunError(f"{found}; remove them, or leave them out with --skip-bad-images.")
        print(f"{found}; going on without them.", flush=True)
        dataset.names = sorted(set(dataset.names) - set(bad))
    return dataset
