"""Checkpoints: opened without running code from them, whoever wrote them, and saved whole."""

import io
import os
import re
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch

from machinery.console import RunError
from machinery.files import atomic_write, numbered
from machinery.pickles import STAND_INS, WholeNet, check_pickle


def to_cpu(value):
    """A copy of a checkpoint with its tensors on the CPU, untouched by what training does next."""
    if torch.is_tensor(value):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: to_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(to_cpu, value))
    return value


def save_checkpoint(checkpoint, path):
    """Write a dict of tensors and plain values; the file appears whole or not at all."""
    buffer = io.BytesIO()  # written to a file, torch.save would hide that the disk is full
    torch.save(checkpoint, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def load_file(path):
    """What a file of weights holds, whoever wrote it, on the CPU; never runs code from the file.

    It may be of torch.save, old or new, or of safetensors. Tensors and plain values are as they were
    saved; NumPy's and a few others (machinery/pickles.py) become an Ignored.
    Raises RunError where there is no such file, it is damaged, or it cannot be opened like this.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"checkpoint {path} does not exist; name a file or a folder.")
    open(path, "rb").close()  # raises OSError where it may not be read, which is no damage
    try:
        if path.suffix.lower() == ".safetensors":
            checkpoint = load_safetensors(path)
        else:
            check_archive(path)
            with torch.serialization.safe_globals(STAND_INS):
                checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        check_tensors(checkpoint, path.stat().st_size)
    except RunError:
        raise
    except Exception as error:  # torch.load raises many kinds for a damaged or foreign file
        reason = f" ({error})" if isinstance(error, (ValueError, BadZipFile)) else ""
        raise RunError(
            f"{path} is not a checkpoint that can be opened: it is damaged, or it holds more than "
            f"tensors and plain values{reason}; use another one."
        ) from error
    return checkpoint


def load_checkpoint(path, net="g_model"):
    """Open a checkpoint of a run, a dict that has {net}_state_dict, as load_file does.

    Raises RunError as load_file does, and where it has no such net, or a weight is not finite.
    """
    checkpoint, wanted = load_file(path), f"{net}_state_dict"
    if not isinstance(checkpoint, dict) or not is_state_dict(checkpoint.get(wanted)):
        raise RunError(f"{path} is no checkpoint of a run: it has no {wanted}; name another one.")
    if name := not_finite(checkpoint):
        raise RunError(f"{path} has weights that are not finite ({name}); use an earlier one.")
    return checkpoint


def load_safetensors(path):
    """The tensors of a safetensors file by name, in the order of the names and their numbers."""
    try:
        from safetensors.torch import load_file  # few have such a file
    except ImportError as error:
        raise RunError(
            f"{path} is a safetensors file; install what opens it: pip install safetensors."
        ) from error

    def order(name):  # main.9 before main.10; in the file they are sorted by their sizes
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]

    say_no_checksums(path)
    tensors = load_file(path)
    return {name: tensors[name] for name in sorted(tensors, key=order)}


def say_no_checksums(path):
    print(f"{path} is of a format without checksums; damage would not show.")


def check_archive(path):
    """Look through a file for torch.load before it is opened; torch.load omits these checks.

    Its zip format has a checksum for each part. The one from before torch 1.6 has none, so of that
    it is said that damage would not show. Raises ValueError, or what ZipFile and pickle raise, for
    a file that is damaged or not of torch.save's making, and RunError for one of a whole net.
    """
    opener = f"torch.load({path.name!r}, weights_only=False)"
    try:
        with open(path, "rb") as file:
            if file.read(4) == b"PK\3\4":
                with ZipFile(file) as archive:
                    parts = archive.infolist()
                    if any(part.filename.endswith("/constants.pkl") for part in parts):
                        opener = f"torch.jit.load({path.name!r})"
                        raise WholeNet
                    if any(part.compress_type or part.external_attr & 16 for part in parts):
                        raise ValueError("its parts are compressed, or folders by their attributes")
                    if damaged := archive.testzip():
                        raise ValueError(f"the checksum of its part {damaged} is wrong")
                    for part in parts:
                        if part.filename.endswith(".pkl"):
                            check_pickle(io.BytesIO(archive.read(part)))
            else:
                file.seek(0)
                for _ in range(5):  # five pickles in a row, then the numbers
                    check_pickle(file)
                say_no_checksums(path)
    except WholeNet as error:
        raise RunError(
            f"{path} holds a whole net with its code, which is not run here; where it came from, "
            "save its weights alone: torch.save(net.state_dict(), 'state_dict.pth'), where net is "
            f"the net in what {opener} gives."
        ) from error


def check_tensors(checkpoint, size):
    """Raise ValueError where tensors claim more bytes than a file of this size can hold."""
    todo, seen, storages = [checkpoint], set(), {}
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, (list, tuple)):
            todo += value
        elif torch.is_tensor(value):
            storage = value.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            if value.is_meta or value.numel() * value.itemsize > storage.nbytes():
                raise ValueError("a tensor is larger than its numbers")
    if sum(storages.values()) > size:
        raise ValueError("its tensors are larger than the file")


def nets_of(checkpoint):
    """Under which names a checkpoint holds nets: g_model_state_dict and the like."""
    return [
        name
        for name, value in checkpoint.items()
        if str(name).endswith("model_state_dict") and is_state_dict(value)
    ]


def not_finite(checkpoint):
    """The name of a weight or statistic of the nets that is not finite; None if there is none."""
    for net in nets_of(checkpoint):
        if name := bad_weight(checkpoint[net]):
            return f"{name} in {net}"
    return None


def bad_weight(state_dict):
    """The name of a weight or statistic that is not finite; None if there is none."""
    for name, value in state_dict.items():
        value = value.float() if value.itemsize == 1 else value  # torch has no isfinite for float8
        if not value.isfinite().all():
            return name
    return None


def is_state_dict(value):
    """Whether this is a dict of tensors by name."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(key, str) and torch.is_tensor(value[key]) for key in value)
    )


def checkpoint_paths(run):
    """The checkpoints of a run folder, oldest first; one of an interrupted epoch comes last."""
    interrupted = Path(run) / "checkpoint_interrupted.pkl"
    paths = [path for _, path in numbered(run, "checkpoint_", "_epoch.pkl")]
    return [*paths, interrupted] if os.path.exists(interrupted) else paths


def trained_runs(folder):
    """Yield the run folders in a folder that have a checkpoint, the newest first."""
    for _, run in reversed(numbered(folder, "run")):
        with suppress(PermissionError):  # another user's
            if checkpoint_paths(run):
                yield run


def newest_checkpoint(run, net="g_model"):
    """The (path, checkpoint) of a run folder that is furthest in training.

    A damaged one is named and passed over. Raises RunError where the folder has no other.
    """
    # A run killed between saving a checkpoint and removing an older, interrupted one has both.
    found, damaged = [], None
    for path in reversed(checkpoint_paths(run)):
        try:
            found.append((path, load_checkpoint(path, net)))
        except RunError as error:
            damaged = damaged or error
            print(f"Looking for an older checkpoint, since {error}", flush=True)
        if len(found) == 2:
            break
    if not found:
        raise damaged or RunError(f"{run} has no checkpoint in it; name another folder.")
    return max(found, key=lambda item: item[1].get("step", item[1].get("epoch", 0)))


def remove_older_checkpoints(path, keep):
    """Keep `keep` checkpoints of whole epochs (0: all), path and those before; drop an interrupted one.

    Later ones are none of these: a run that goes on with an older one has found them damaged.
    """
    (path.parent / "checkpoint_interrupted.pkl").unlink(missing_ok=True)
    paths = checkpoint_paths(path.parent)
    if keep and path in paths:
        for older in paths[: max(0, paths.index(path) + 1 - keep)]:
            older.unlink()
