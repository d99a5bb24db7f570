"""Files that are written whole or not at all, and folders that are never written over."""

import errno
import os
import re
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from machinery.console import RunError


@contextmanager
def writing(path):
    """Turn a failed write inside the block into a RunError that names the path."""
    try:
        yield
    except OSError as error:
        there = next(each for each in (Path(path), *Path(path).parents) if each.exists())
        if isinstance(error, (FileExistsError, NotADirectoryError)) and not there.is_dir():
            raise RunError(
                f"{path} could not be written: {there} is a file; name a new folder."
            ) from error
        if isinstance(error, FileNotFoundError) and not Path(path).parent.exists():
            raise RunError(
                f"{path} could not be written: there is no folder {Path(path).parent}; if it was moved "
                "meanwhile, go on in its new place."
            ) from error
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise RunError(
            f"{path} could not be written ({error.strerror or error}); what was saved before "
            f"is intact: {'free some space or ' * full}choose another folder, and run again or resume."
        ) from error


@contextmanager
def atomic_write(path, sync=True, make_folder=False):
    """A binary file to write to that appears at path whole or not at all.

    With sync=False that does not hold through a power failure, but nothing waits for the disk. Without
    make_folder its folder has to be there: one that was moved meanwhile must not be made anew.
    Raises RunError where it cannot be written (no space left, no permission).
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    with writing(path):
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.glob(f"*.{'[0-9a-f]' * 32}.partial"):
            with suppress(FileNotFoundError, PermissionError):  # finished meanwhile, or another's
                if time.time() - other.stat().st_mtime > 3600:  # of a process that was killed
                    other.unlink()
        try:
            with open(partial, "wb") as file:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def new_folder(parent, prefix):
    """Make and return the next of parent/{prefix}1, {prefix}2, ...; never one that exists."""
    with writing(parent):
        Path(parent).mkdir(parents=True, exist_ok=True)
        while True:
            number = 1 + max((number for number, _ in numbered(parent, prefix)), default=0)
            try:
                folder = Path(parent) / f"{prefix}{number}"
                folder.mkdir()
                return folder
            except FileExistsError:  # another run took it in this moment
                pass


@contextmanager
def locked(folder):
    """Keep a folder to this process inside the block; a killed process leaves no lock behind.

    Raises RunError where another one has it, PermissionError where the lock may not be used. Where the
    file system knows no locks, nothing is kept.
    """
    lock = FileLock(Path(folder) / ".lock", timeout=2)  # a moment for one that is just ending
    try:
        lock.acquire()
    except Timeout as error:
        raise RunError(
            f"{folder} is in use: another process trains it; wait for its end or start a new run."
        ) from error
    except PermissionError:  # it is another user's
        raise
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()


def numbered(folder, prefix, suffix=""):
    """The (number, path) of every {prefix}{number}{suffix} in a folder, in order of number.

    There are none where the folder is not there. Raises OSError where it may not be read.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d+)" + re.escape(suffix))
    names = os.listdir(folder) if os.path.isdir(folder) else []
    matches = filter(None, map(pattern.fullmatch, names))
    return sorted((int(match[1]), Path(folder, match[0])) for match in matches)
