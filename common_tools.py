"""What training and sampling share: seeds, devices, files, checkpoints, pictures."""

import csv
import glob
import io
import math
import os
import pickletools
import random
import re
import signal
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import pad
from tqdm import tqdm

METRICS = ("loss_d", "loss_g", "d_x", "d_gz_before", "d_gz_after")  # of one iteration
NETS = ("g_model_state_dict", "g_ema_model_state_dict", "d_model_state_dict")  # in a checkpoint


class RunError(Exception):
    """What is wrong, where, and what to do about it, in one sentence for the user."""

    def __init__(self, sentence):
        super().__init__(" ".join(sentence.split()))  # a cause may be of several lines


def run_as_script(main):
    """Call main(); a RunError becomes its sentence on stderr and exit 2, Ctrl-C exit 130.

    SIGTERM exits with 143 and, unlike by default, cleans up on the way.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except RunError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def catch_signals():
    """Inside the block, Ctrl-C and SIGTERM only go into the list that it yields.

    A second Ctrl-C interrupts at once, as usual.
    """
    caught = []

    def note(number, _frame):
        caught.append(number)
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def map_in_processes(function, items, chunk):
    """Yield function(list of `chunk` items) for all items, in order; all cores work on it."""
    from torch.utils.data import DataLoader  # a pool that ends with its parent, however that ends

    chunks = -(-len(items) // chunk)
    return DataLoader(
        items,
        batch_size=chunk,
        collate_fn=function,
        num_workers=min(os.cpu_count() or 1, chunks // 8),  # a few items are not worth a process
        worker_init_fn=_leave_signals_to_parent,
        generator=torch.Generator(),  # its own, so that the global random numbers stay as they are
    )


def _leave_signals_to_parent(_worker):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Lines:
    """A file for tqdm that makes each state of the bar a line, for output that is no terminal."""

    def write(self, text):
        if text.strip():
            print(text.strip(), file=sys.stderr, flush=True)

    def flush(self):
        pass


def progress_bar(total, done, disable=False):
    """A tqdm bar that counts images; where stderr is no terminal, a plain line each half minute."""
    if disable:
        return tqdm(disable=True)
    if sys.stderr.isatty():  # figures first: in a window of 80 columns they leave no room for a bar
        line = "{desc}{rate_fmt} {remaining} {bar}"
        options = {"unit": "img", "unit_scale": True, "dynamic_ncols": True}
    else:
        line = "{desc}{n_fmt}/{total_fmt} images, {rate_fmt}, {remaining} left"
        options = {"unit": " images", "mininterval": 30, "delay": 1, "file": _Lines()}
    with catch_signals() as caught:  # half made, a bar would complain on its way out
        bar = tqdm(total=total, initial=done, bar_format=line, **options)
    for number in caught:
        signal.raise_signal(number)
    return bar


# --- seeds and devices


def set_seed(seed=1):
    """Seed Python's, NumPy's and PyTorch's random numbers, on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def get_random_state():
    """Every random state that set_seed sets, as tensors and plain values."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state):
    """Go back to a state from get_random_state; the GPUs' part only on as many GPUs as it had."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])


def seed_iteration(random, seed, step, rank=0):
    """Seed a torch.Generator for one iteration of one process; returns it.

    Its numbers do not depend on what came before, so a resumed run goes on with the right ones.
    """
    sequence = np.random.SeedSequence([seed, step, rank])
    return random.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


def choose_device(name="auto"):
    """The torch.device of that name; "auto" is CUDA or Apple's MPS if there is one, else the CPU.

    Raises RunError for a device that this machine does not have.
    """
    if name == "auto":
        mps = "mps" if torch.backends.mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else mps
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        reason = str(error).splitlines()[0]
        raise RunError(f"device {name} cannot be used here ({reason}); try cpu.") from error
    return torch.device(name)


# --- files


@contextmanager
def writing(path):
    """Turn a failed write inside the block into a RunError that names the path."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path} could not be written ({error.strerror or error}); what was saved before "
            "is intact: free some space or choose another folder, and run again or resume."
        ) from error


@contextmanager
def atomic_write(path, sync=True):
    """A binary file to write to that appears at path whole or not at all.

    With sync=False that does not hold through a power failure, but nothing waits for the disk.
    Raises RunError where it cannot be written (no space left, no permission).
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
            if time.time() - other.stat().st_mtime > 3600:  # of a process that was killed
                other.unlink(missing_ok=True)
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


def numbered(folder, prefix, suffix=""):
    """The (number, path) of every {prefix}{number}{suffix} in a folder, in order of number."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)" + re.escape(suffix))
    matches = ((pattern.fullmatch(path.name), path) for path in Path(folder).glob(f"{prefix}*"))
    return sorted((int(match[1]), path) for match, path in matches if match)


# --- checkpoints


def remove_module(state_dict):
    """A new state dict without the leading "module." of (Distributed)DataParallel."""
    return {key.removeprefix("module."): value for key, value in state_dict.items()}


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


def load_checkpoint(path):
    """Open any DCGAN checkpoint, on the CPU; never runs code from the file.

    The file may be one of ours, or one that holds only g_model_state_dict, d_model_state_dict and
    epoch, or a bare generator state dict. It may come from a GPU that is not there, from several
    ("module." on every key), from torch.compile ("_orig_mod."), or from before torch 1.6.

    Returns a dict with "g_model_state_dict", under plain keys, and what else the file held.
    Raises RunError where there is no such file, it is damaged, it cannot be read, it holds no
    generator, or a weight is not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"checkpoint {path} does not exist; name a file.")
    try:
        check_archive(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        check_tensors(checkpoint, path.stat().st_size)
    except Exception as error:  # torch.load raises many kinds for a damaged or foreign file
        reason = f" ({error})" if isinstance(error, (ValueError, BadZipFile)) else ""
        raise RunError(
            f"{path} is not a checkpoint that can be opened: it is damaged, or it holds more than "
            f"tensors and plain values{reason}; use another one."
        ) from error
    if is_state_dict(checkpoint):
        checkpoint = {"g_model_state_dict": checkpoint}
    if not isinstance(checkpoint, dict) or not is_state_dict(checkpoint.get("g_model_state_dict")):
        raise RunError(
            f"{path} has no generator in it: neither g_model_state_dict nor a bare state dict."
        )
    for name in NETS:
        if is_state_dict(checkpoint.get(name)):
            plain = {
                key.replace("_orig_mod.", ""): value for key, value in checkpoint[name].items()
            }
            checkpoint[name] = remove_module(plain)
    if name := not_finite(checkpoint):
        raise RunError(f"{path} has weights that are not finite ({name}); use an earlier one.")
    return checkpoint


# What the pickles of checkpoints name. torch.load with weights_only=True allows more, none of it
# harmful but for a call that takes gigabytes of memory, such as bytearray(10**11).
HARMLESS = re.compile(
    r"collections (OrderedDict|Counter)|torch._utils _rebuild_(tensor|tensor_v2|parameter)"
    r"|torch (\w+Storage|Size|device|b?float\d+|u?int\d+|bool)"
)


def check_archive(path):
    """Look through a file for torch.load before it is opened; torch.load omits these checks.

    Its zip format has a checksum for each part. The one from before torch 1.6 has none, so of that
    it is said that damage would not show. Raises ValueError, or what ZipFile raises, for a file
    that is damaged or not of torch.save's making.
    """
    with open(path, "rb") as file:
        if file.read(4) == b"PK\3\4":
            with ZipFile(file) as archive:
                parts = archive.infolist()
                if any(part.compress_type or part.external_attr & 16 for part in parts):
                    raise ValueError("its parts are compressed, or folders by their attributes")
                if damaged := archive.testzip():
                    raise ValueError(f"the checksum of its part {damaged} is wrong")
                pickles = [archive.open(part) for part in parts if part.filename.endswith(".pkl")]
                check_pickles(pickles)
        else:
            file.seek(0)
            check_pickles([file] * 5)  # five pickles in a row, then the numbers
            print(f"{path} is of PyTorch's old format without checksums; damage would not show.")


def check_pickles(files):
    for file in files:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name in ("GLOBAL", "INST") and not HARMLESS.fullmatch(argument):
                raise ValueError(f"it asks for {argument}")
            if opcode.name == "STACK_GLOBAL":  # torch.load knows no later protocol, either
                raise ValueError("it is pickled by another protocol than 2")


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


def not_finite(checkpoint):
    """The name of a weight or statistic of the nets that is not finite; None if there is none."""
    for net in NETS:
        weights = checkpoint.get(net)
        for name, value in weights.items() if is_state_dict(weights) else ():
            if not value.isfinite().all():
                return f"{name} in {net}"
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
    return [*paths, interrupted] if interrupted.exists() else paths


def newest_checkpoint(run):
    """The (path, checkpoint) of a run folder that is furthest in training.

    A damaged one is named and passed over. Raises RunError where the folder has no other.
    """
    # A run killed between saving a checkpoint and removing an older, interrupted one has both.
    found, damaged = [], None
    for path in reversed(checkpoint_paths(run)):
        try:
            found.append((path, load_checkpoint(path)))
        except RunError as error:
            damaged = damaged or error
            print(f"Looking for an older checkpoint, since {error}", flush=True)
        if len(found) == 2:
            break
    if not found:
        raise damaged or RunError(f"{run} has no checkpoint in it; name another run folder.")
    return max(found, key=lambda item: item[1].get("step", item[1].get("epoch", 0)))


def remove_older_checkpoints(run, keep):
    """Keep the newest `keep` checkpoints of whole epochs (0: all), drop an interrupted one."""
    (Path(run) / "checkpoint_interrupted.pkl").unlink(missing_ok=True)
    if keep:
        for path in checkpoint_paths(run)[:-keep]:
            path.unlink()


# --- metrics.csv, and what a killed run leaves behind


def drop_later_files(run, step, epoch):
    """Take away what a killed run wrote after its newest checkpoint: at that step, in that epoch."""
    for partial in run.glob("*.partial"):
        partial.unlink()
    for number, picture in numbered(run, "epoch_", ".png"):
        if number >= epoch:
            picture.unlink()
    if (metrics := run / "metrics.csv").exists():
        lines = metrics.read_text().splitlines(keepends=True)
        with atomic_write(metrics) as file:
            file.write("".join(lines[: 1 + step]).encode())


def write_metrics(run, block, epoch, first_iteration):
    """Append a block of rows to metrics.csv. Raises RunError at a loss that is not finite."""
    path = run / "metrics.csv"
    with writing(path), open(path, "a", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        if file.tell() == 0:
            rows.writerow(["epoch", "iteration", *METRICS])
        for iteration, numbers in enumerate(block, first_iteration):
            rows.writerow([epoch, iteration, *(f"{number:.6g}" for number in numbers)])
    for iteration, (loss_d, loss_g, *_) in enumerate(block, first_iteration):
        if not (math.isfinite(loss_d) and math.isfinite(loss_g)):
            raise diverged(run, f"the loss is not finite in epoch {epoch}, iteration {iteration}")


def diverged(run, what):
    """The RunError for numbers of a run that are no longer finite."""
    last_good = (checkpoint_paths(run) or ["not there yet"])[-1]
    return RunError(
        f"{what}; the last good checkpoint is {last_good}: --resume goes on from there, and if this "
        "comes again, start a new run with a lower lr."
    )


# --- pictures


@torch.no_grad()
def generate(generator, noise):
    """Noise (N, nz, 1, 1) -> images (N, nc, H, W) in [-1, 1], from BatchNorm's running statistics.

    So a face does not depend on its neighbours, and the generator is left as it was.
    """
    was_training = generator.training
    generator.eval()
    images = generator(noise)
    generator.train(was_training)
    return images


def to_pixels(images):
    """Images (N, nc, H, W) in [-1, 1] -> pixels (N, nc, H, W), uint8 on the CPU."""
    return ((images.cpu() * 0.5 + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)


def save_grid(images, path, per_row=8):
    """Save images (N, nc, H, W) in [-1, 1] as one PNG of rows; returns it as (3, H', W') uint8."""
    columns = min(per_row, len(images))
    missing = -len(images) % columns  # in the last row
    tiles = to_pixels(images).expand(-1, 3, -1, -1)
    tiles = pad(tiles, (2, 0, 2, 0, 0, 0, 0, missing))  # a black line left of and above each
    rows = tiles.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4)  # (3, rows, H, columns, W)
    grid = pad(rows.flatten(3).flatten(1, 2), (0, 2, 0, 2))
    with atomic_write(path) as file:
        Image.fromarray(grid.permute(1, 2, 0).numpy()).save(file, format="PNG")
    return grid


def save_animation(pictures, path, milliseconds):
    """Save PIL images as a GIF that repeats, each shown for so many milliseconds."""
    # Pillow's own choice of 256 colors takes sixty times as long.
    octree = Image.Quantize.FASTOCTREE
    first, *others = [picture.convert("RGB").quantize(method=octree) for picture in pictures]
    options = {"append_images": others, "duration": milliseconds, "loop": 0}
    with atomic_write(path) as file:
        first.save(file, format="GIF", save_all=True, **options)


def save_curves(metrics_csv, path):
    """Draw the losses and D's probabilities of a run's metrics.csv, smoothed over the raw curve."""
    from matplotlib.figure import Figure  # needs a second to load, and sampling does without

    rows = np.genfromtxt(metrics_csv, delimiter=",", names=True, ndmin=1)
    iterations = np.arange(1, len(rows) + 1)
    window = max(1, len(rows) // 50)
    figure = Figure(figsize=(10, 8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    curves = {
        upper: {"Loss_D": "loss_d", "Loss_G": "loss_g"},
        lower: {
            "D(x)": "d_x",
            "D(G(z)) before the D step": "d_gz_before",
            "D(G(z)) after it": "d_gz_after",
        },
    }
    for axes, names in curves.items():
        for color, (label, column) in enumerate(names.items()):
            values = rows[column]
            smooth = np.convolve(values, np.ones(window) / window, mode="valid")
            axes.plot(iterations, values, color=f"C{color}", alpha=0.2, linewidth=0.5)
            axes.plot(iterations[window - 1 :], smooth, color=f"C{color}", label=label)
        axes.legend()
        axes.grid(alpha=0.3)
    upper.set_ylabel("loss")
    lower.set(xlabel="iteration", ylabel="probability of being real", ylim=(0, 1))
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)
