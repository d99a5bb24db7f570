"""Two at once, and numbers that are no numbers."""

import itertools

import torch
from conftest import assert_same_run

import gan_demo


def test_two_runs_in_one_folder_both_end_right(start, untouched, tmp_path):
    folder = tmp_path / "both"
    both = [start(folder), start(folder)]  # they pack the same images, too
    for process in both:
        process.join()
        assert process.exitcode == 0, process.stderr.read_text()
    for run in ("run1", "run2"):
        assert_same_run(folder / "log_gan" / run, untouched)
    assert not list(folder.glob("**/*.partial"))


def make_infinite(iteration):
    """In the process of the run: a batch that makes the loss infinite."""
    steps, step = itertools.count(), gan_demo.train_step

    def train_step(real, *rest):
        return step(real / 0 if next(steps) == iteration else real, *rest)

    gan_demo.train_step = train_step


def spoil_weights(iteration):
    """In the process of the run: weights that an iteration leaves as NaN, after a good loss."""
    steps, step = itertools.count(), gan_demo.train_step

    def train_step(real, noise, generator, *rest):
        numbers = step(real, noise, generator, *rest)
        if next(steps) == iteration:
            with torch.no_grad():
                generator.main[0].weight[0, 0] = torch.nan
        return numbers

    gan_demo.train_step = train_step


def test_numbers_that_are_not_finite_stop_the_run_and_it_goes_on_before_them(
    start, finish, untouched, tmp_path
):
    # An epoch has 7 iterations: 24 lies in the fourth and last, 27 ends it.
    for fault, iteration, sentence in [
        (make_infinite, 24, "the loss is not finite in epoch 3, iteration 3;"),
        (spoil_weights, 27, "after iteration 28 weights are not finite (main.0.weight in g_"),
    ]:
        folder = tmp_path / fault.__name__
        process = start(folder, fault, (iteration,))
        process.join()
        error = process.stderr.read_text()
        assert process.exitcode == 2 and error.count("\n") == 1
        assert sentence in error and "checkpoint_2_epoch.pkl: --resume goes on from there" in error
        assert_same_run(finish(folder)[0], untouched)
