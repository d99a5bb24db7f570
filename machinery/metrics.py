"""metrics.csv of a run, a row for each iteration: written in blocks, cut back, drawn as curves."""

import csv
import math

import numpy as np

from machinery.files import atomic_write, writing


def write_metrics(folder, metrics, epoch, iteration, block):
    """Append the rows of a block, of which the first is that iteration of the epoch."""
    path = folder / "metrics.csv"
    with writing(path), open(path, "a", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        if file.tell() == 0:
            rows.writerow(["epoch", "iteration", *metrics])
        for number, values in enumerate(block, iteration):
            rows.writerow([epoch, number, *(f"{value:.6g}" for value in values)])


def not_finite_loss(metrics, block):
    """Which row of a block has a loss that is not finite; None if there is none."""
    losses = [place for place, name in enumerate(metrics) if name.startswith("loss")]
    for number, values in enumerate(block):
        if not all(math.isfinite(values[place]) for place in losses):
            return number
    return None


def cut_metrics(folder, steps):
    """Keep the rows of the first so many iterations."""
    if (path := folder / "metrics.csv").exists():
        lines = path.read_text().splitlines(keepends=True)
        with atomic_write(path) as file:
            file.write("".join(lines[: 1 + steps]).encode())


def save_curves(folder, metrics):
    """Draw loss.png: the columns of metrics.csv, smoothed over the raw curve.

    metrics: from the name of a column to its label. Names that begin with "loss" are drawn in the
    upper half; all others are probabilities that D gives, in the lower.
    """
    from matplotlib.figure import Figure  # needs a second to load, and sampling does without

    rows = np.genfromtxt(folder / "metrics.csv", delimiter=",", names=True, ndmin=1)
    iterations = np.arange(1, len(rows) + 1)
    window = max(1, len(rows) // 50)
    figure = Figure(figsize=(10, 8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    drawn = {upper: 0, lower: 0}
    for column, label in metrics.items():
        axes = upper if column.startswith("loss") else lower
        color = f"C{drawn[axes]}"
        drawn[axes] += 1
        values = rows[column]
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
