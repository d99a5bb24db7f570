"""metrics.csv of a run, a row for each iteration: written in blocks, cut back, drawn as curves; and
TensorBoard's files."""

import csv
import math
import threading
from contextlib import contextmanager
from itertools import count

import numpy as np

from machinery.files import atomic_write, writing


def write_metrics(folder, metrics, epoch, iteration, block):
    """Append the rows of a block, of which the first is that iteration of the epoch."""
    path = folder / "metrics.csv"
    with writing(path), open(path, "a", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        if file.tell() == 0:
            rows.writerow(columns(metrics))
        for number, values in enumerate(block, iteration):
            rows.writerow([epoch, number, *(f"{value:.6g}" for value in values)])


def not_finite_loss(metrics, block):
    """Which row of a block has a loss that is not finite; None if there is none."""
    losses = [place for place, name in enumerate(metrics) if name.startswith("loss")]
    for number, values in enumerate(block):
        if not all(math.isfinite(values[place]) for place in losses):
            return number
    return None


def columns(metrics):
    return ["epoch", "iteration", *metrics]


def cut_metrics(folder, metrics, place):
    """Keep the rows of what came before place, an epoch and an iteration of it.

    A file of other columns is kept under another name, and a new one is begun.
    """
    path = folder / "metrics.csv"
    if not path.exists():
        return
    try:
        text = path.read_text()
        head, *rows = [line.split(",") for line in text.splitlines()]
        if rows and not text.endswith("\n") and len(rows[-1]) < len(head):
            rows.pop()  # the disk was full in the middle of it
        rows = {(int(row[0]), int(row[1])): row for row in rows}
        rows = [row for number, row in sorted(rows.items()) if number < place]
        numbers = [[float(value) for value in row] for row in rows]
        if head != columns(metrics) or any(len(row) != len(head) for row in numbers):
            raise ValueError
    except (ValueError, IndexError):
        names = (path.with_name(f"metrics_{number}.csv") for number in count(1))
        other = next(name for name in names if not name.exists())
        path.rename(other)
        print(
            f"{path} is not as a run leaves it: it is damaged, or its columns are others; it is kept "
            f"as {other.name}, and the curves begin here.",
            flush=True,
        )
    else:
        with atomic_write(path) as file:
            file.write("".join(f"{','.join(row)}\n" for row in [head, *rows]).encode())


def save_curves(folder, metrics, steps):
    """Draw loss.png: the columns of metrics.csv, smoothed over the raw curve.

    metrics: from the name of a column to its label. Names that begin with "loss" are drawn in the
    upper half; all others are probabilities that D gives, in the lower.
    steps: how many iterations the run has done by its last row.
    """
    from matplotlib.figure import Figure  # needs a second to load, and sampling does without

    try:
        rows = np.loadtxt(folder / "metrics.csv", delimiter=",", skiprows=1, ndmin=2)
        curves = dict(zip(metrics, rows.T[2:], strict=True))
    except (OSError, ValueError) as error:  # someone has changed it
        print(f"{folder / 'metrics.csv'} cannot be drawn as curves ({error}).", flush=True)
        return
    iterations = np.arange(steps - len(rows), steps) + 1
    window = max(1, len(rows) // 50)
    figure = Figure(figsize=(10, 8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    drawn = {upper: 0, lower: 0}
    for column, label in metrics.items():
        axes = upper if column.startswith("loss") else lower
        color = f"C{drawn[axes]}"
        drawn[axes] += 1
        values = curves[column]
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(iterations, values, color=color, alpha=0.2, linewidth=0.5)
        axes.plot(iterations[window - 1 :], smooth, color=color, label=label)
    for axes in drawn:
        axes.legend()
        axes.grid(alpha=0.3)
    upper.set_ylabel("loss")
    lower.set(xlabel="iteration", ylabel="probability of being real", ylim=(0, 1))
    with atomic_write(folder / "loss.png") as file:
        figure.savefig(file, format="png", dpi=100)


@contextmanager
def event_files(folder, step):
    """Yield TensorBoard's SummaryWriter for a run that has done so many iterations.

    Raises RunError where its files cannot be written; what is called inside the block raises OSError.
    """
    from torch.utils.tensorboard import SummaryWriter  # slow to load

    def say_once(what):
        theirs = type(what.thread).__module__.startswith("tensorboard")
        if not theirs:  # the next call raises that, too
            before(what)

    before, threading.excepthook = threading.excepthook, say_once
    try:
        with writing(folder):
            board = SummaryWriter(folder, purge_step=step + 1)
        try:
            yield board
        finally:
            with writing(folder):
                board.close()
    finally:
        threading.excepthook = before
