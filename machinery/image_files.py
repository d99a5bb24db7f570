"""Which files of a folder or zip are images, and why one cannot be read, in words for the user."""

import os
import re
import stat
from heapq import heappop, heappush

from PIL import Image, UnidentifiedImageError

from machinery.console import RunError

# What every Pillow reads; and images that are not read, so that the user is told of them.
EXTENSIONS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp"),
    *(".gif", ".tif", ".tiff", ".ppm", ".pgm"),
}
OTHER_EXTENSIONS = {
    *(".avif", ".heic", ".heif", ".jxl", ".jp2", ".tga", ".psd", ".xcf", ".svg", ".exr"),
    *(".pbm", ".pnm", ".pcx", ".dib", ".ico", ".apng"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"),
}
FACES_TABLE, OVERVIEW = "faces.csv", "overview.png"  # what align_faces.py writes beside its faces


def folder_files(folder, called="data_dir"):
    """Yield (path inside folder, (size in bytes, time in ns)) of its files and its sub-folders'.

    Links to folders are followed after all real folders, in sorted order, and no folder is read
    twice: it goes by its own path, or else by that of the first link to it.
    What cannot be opened and may be a folder is yielded as "path/", so that reading it says so.
    Raises RunError, with the constant's name in it, where the folder itself cannot be opened.
    """
    folders, links, done = [""], [], set()
    while folders or links:
        inside = folders.pop() if folders else heappop(links)
        path = os.path.join(folder, inside)
        if (real := os.path.realpath(path)) in done:
            continue
        done.add(real)
        try:
            with os.scandir(path) as entries:
                found = [entry for entry in entries if not is_hidden(entry.name)]
        except OSError as error:
            if not inside:
                reason = f"{called} {folder} cannot be opened ({error.strerror})"
                raise RunError(f"{reason}; allow it to be read or name another.") from error
            yield inside, (0, 0)
            continue
        for entry in found:
            name = inside + entry.name
            try:
                about = entry.stat()
            except OSError:  # a link to nothing
                yield name if ending(name) else f"{name}/", (0, 0)
                continue
            if stat.S_ISREG(about.st_mode):
                yield name, (about.st_size, about.st_mtime_ns)
            elif not stat.S_ISDIR(about.st_mode):  # a pipe, say, which would be waited for
                continue
            elif entry.is_symlink():
                heappush(links, f"{name}/")
            else:
                folders.append(f"{name}/")


def is_hidden(path):
    """Whether a path inside a data folder or zip is an unzip tool's rest or begins with a dot."""
    parts = path.replace("\\", "/").split("/")  # Windows tools of old wrote zips with backslashes
    return any(
        part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in parts
    )


def is_overview(path, paths):
    """Whether it is a picture of align_faces.py's: an overview.png that lies beside a faces.csv."""
    folder, _, name = path.rpartition("/")
    return name == OVERVIEW and f"{folder}/{FACES_TABLE}".lstrip("/") in paths


def ending(path):
    """The ending of a file's path in lower case, with its dot; "/" for a folder's."""
    return "/" if path.endswith("/") else os.path.splitext(path)[1].lower()


def counts(endings):
    """How many files there are of each ending, in words."""
    return ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))


class BadImage(ValueError):
    """An image file is of a kind that cannot be used; detail is what only this one has of it."""

    def __init__(self, kind, detail=""):
        super().__init__(kind, detail)


def why(error):
    """The (kind, detail) of what reading an image file raised; files of one kind are told as one."""
    text = str(error)
    if isinstance(error, BadImage):
        return error.args
    if isinstance(error, UnidentifiedImageError):
        return "of an unknown format", ""
    if isinstance(error, Image.DecompressionBombError):
        pixels = int(re.search(r"\d+", text)[0])
        return f"of more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels", f"{pixels:,}"
    if isinstance(error, FileNotFoundError):
        return "not there", ""
    if isinstance(error, OSError) and error.strerror:  # the system's words
        return error.strerror, ""
    if "truncated" in text.lower():
        return "cut short", ""
    return text.split(" (")[0] or type(error).__name__, ""  # what is in () differs between files


def listed(unreadable):
    """How many there are of each kind in {name: (kind, detail)}, and the first names; one line."""
    kinds = {}
    for name, (kind, detail) in unreadable.items():
        kinds.setdefault(kind, []).append(f"{name}: {detail}" if detail else name)
    text = ", ".join(
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in sorted(kinds.items(), key=lambda item: -len(item[1]))
    )
    return " ".join(text.encode(errors="backslashreplace").decode().split())  # odd names as well
