"""Images decoded once, by all cores, into one array in a file that opens at once."""

import json
import math
from functools import partial

import numpy as np
from tqdm import tqdm

from machinery.console import RunError
from machinery.files import atomic_write
from machinery.processes import map_in_processes

ABOUT = {"fingerprint": int, "unreadable": list, "name": str}  # what stands after the array


def open_packed(path):
    """The (images, about) of a file from pack(); OSError or ValueError if it is none."""
    images = np.lib.format.open_memmap(path, mode="r")
    with open(path, "rb") as file:
        file.seek(images.offset + images.nbytes)
        about = json.load(file)
    found = about if isinstance(about, dict) else {}
    if lacking := [key for key, kind in ABOUT.items() if not isinstance(found.get(key), kind)]:
        raise ValueError(f"what stands after the array lacks {', '.join(lacking)}")
    if about["name"] != path.name:
        raise ValueError(f"it was packed as {about['name']}")
    return images, about


def pack(dataset, path, image_size, nc):
    """Decode a CelebADataset, whose items are PIL images of that size, into a file; all cores do.

    The file is a .npy of uint8 (N, image_size, image_size, nc). After the array stand, as JSON, the
    fingerprint of its images, the names of those that cannot be read and are left out, and the
    file's own name.
    Raises RunError where none can be read, or the file cannot be written.
    """
    shape = (image_size, image_size, nc)
    mebibyte = max(1, 2**20 // math.prod(shape))  # so many images
    blocks = map_in_processes(partial(decode, dataset), range(len(dataset)), mebibyte)
    unreadable = []
    with atomic_write(path, sync=False) as file:  # open_packed will see what is missing
        write_npy_header(file, (len(dataset), *shape))
        with tqdm(desc="packing images", total=len(dataset), leave=False, disable=None) as bar:
            for count, pixels, bad in blocks:
                file.write(pixels)
                unreadable += bad
                bar.update(count)
        if len(unreadable) == len(dataset):
            raise RunError(f"none of the images in {dataset.data_dir} can be read; name others.")
        dataset.names = sorted(set(dataset.names) - set(unreadable))
        about = {"fingerprint": dataset.fingerprint(), "unreadable": unreadable, "name": path.name}
        file.write(json.dumps(about).encode())
        file.seek(0)
        write_npy_header(file, (len(dataset), *shape))  # as long as before, whatever the number


def write_npy_header(file, shape):
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def decode(dataset, indices):
    """Of these items: how many there are, the pixels of all that can be read, the others' names."""
    pixels, unreadable = [], []
    for index in indices:
        try:
            pixels.append(dataset[index].tobytes())
        except RunError:
            unreadable.append(dataset.names[index])
    return len(indices), b"".join(pixels), unreadable
