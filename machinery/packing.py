"""Images decoded once, by all cores, into one array in a file that opens at once."""

import json
import math
from contextlib import suppress
from functools import partial
from tokenize import TokenError

import numpy as np
from tqdm import tqdm

from machinery.console import RunError
from machinery.files import atomic_write
from machinery.image_files import listed, why
from machinery.processes import map_in_processes

KEPT = 3  # packed files of one folder or zip
ABOUT = {  # what stands after the array
    "fingerprint": int,
    "unreadable": dict,
    "passed_over": dict,
    "source": str,
    "name": str,
}


def open_packed(path):
    """The (images, about) of a file from pack(); OSError or ValueError if it is none."""
    try:
        images = np.lib.format.open_memmap(path, mode="r")
    except TokenError as error:  # of a damaged header
        raise ValueError(error) from error
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
    fingerprint of its images, the names of those that cannot be read and are left out, each with
    why(), how many are passed over, the path of the folder or zip, and the file's own name.
    Raises RunError where none can be read, or the file cannot be written.
    """
    shape = (image_size, image_size, nc)
    mebibyte = max(1, 2**20 // math.prod(shape))  # so many images
    blocks = map_in_processes(partial(decode, dataset), range(len(dataset)), mebibyte)
    unreadable = {}
    # open_packed sees what is missing
    with atomic_write(path, sync=False, make_folder=True) as file:
        write_npy_header(file, (len(dataset), *shape))
        with tqdm(desc="packing images", total=len(dataset), leave=False, disable=None) as bar:
            for count, pixels, bad in blocks:
                file.write(pixels)
                unreadable |= bad
                bar.update(count)
        if len(unreadable) == len(dataset):
            found = f"none of the images in {dataset.data_dir} can be read: {listed(unreadable)}"
            raise RunError(f"{found}; name others.")
        dataset.names = sorted(set(dataset.names) - set(unreadable))
        about = {
            "fingerprint": dataset.fingerprint(),
            "unreadable": unreadable,
            "passed_over": dataset.passed_over,
            "source": str(dataset.data_dir.resolve()),
            "name": path.name,
        }
        file.write(json.dumps(about).encode())
        file.seek(0)
        write_npy_header(file, (len(dataset), *shape))  # as long as before, whatever the number


def write_npy_header(file, shape):
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def decode(dataset, indices):
    """Of these items: how many there are, the pixels of all that can be read, why not the others."""
    pixels, unreadable = [], {}
    for index in indices:
        try:
            pixels.append(dataset[index].tobytes())
        except RunError as error:
            unreadable[dataset.names[index]] = why(error.__cause__)
    return len(indices), b"".join(pixels), unreadable


def remove_older(path, source):
    """Of the packed files of a folder or zip leave path and, beside it, those used last: KEPT.

    Returns the names of those removed. What open_packed does not open is not touched.
    """
    others = []
    for other in path.parent.glob("*.npy"):
        with suppress(OSError, ValueError):  # damaged, not ours, or just removed by another process
            if other != path and open_packed(other)[1]["source"] == source:
                others.append((other.stat().st_mtime_ns, other))
    removed = []
    for _, other in sorted(others)[: 1 - KEPT]:
        with suppress(OSError):  # another process has removed it or, on Windows, has it open
            other.unlink()
            removed.append(other.name)
    return removed
