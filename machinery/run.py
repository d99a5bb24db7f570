"""The life of a training run, whatever it trains: its folder, its place in the data, and its end."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace

import numpy as np
import torch
from PIL import Image

from machinery.acceleration import load_optimizer
from machinery.checkpoints import (
    checkpoint_paths,
    newest_checkpoint,
    not_finite,
    remove_older_checkpoints,
    save_checkpoint,
    to_cpu,
)
from machinery.console import RunError, Stopped, catch_signals, command_of, progress_bar, quoted
from machinery.constants import find_run
from machinery.files import atomic_write, locked, new_folder, numbered, writing
from machinery.metrics import (
    cut_metrics,
    event_files,
    not_finite_loss,
    save_curves,
    write_metrics,
)
from machinery.pictures import save_animation, save_picture
from machinery.processes import (
    alone,
    average,
    average_statistics,
    begin_training,
    from_rank_0,
    get_rank,
    get_world_size,
    largest,
    remember_run,
)


class Run:
    """A run that can be stopped or killed at any time, and goes on to the end that it would have had.

    with Run(config, {"g_model": generator, ...}, METRICS, data) as run:
        for epoch in run.epochs():
            for batch in run.batches():
                run.count(numbers)  # of this iteration, after its steps
            run.end_epoch(draw)

    config: a RunConfig that also has num_epochs and batch_size. If it names a run to go on with,
        everything below is made as it was there; else the run gets a new folder.
    parts: what is trained, by name: nets (their names end in _model; the first part is one) and
        optimizers, or anything with state_dict and load_state_dict. A checkpoint holds each as
        {name}_state_dict, and going on restores all of them, here.
    metrics: the numbers of an iteration, from their names in metrics.csv to those in the curves. Names
        that begin with "loss" are losses; all others are drawn as probabilities, from 0 to 1.
    data: what is learnt from. data.epoch(epoch, seen) yields the batches of an epoch, of whose
        examples so many have been seen, and of each batch the share of this process. It has as
        attributes how many examples there are (count), how many of them all processes take in an
        iteration (total), what they are (unit, such as "images"), where they are from (source), a
        number that tells them from others (fingerprint), and the device of the batches.
    describe: what the progress bar says of a block of iterations, a list of rows of numbers.

    Raises RunError, with a sentence for the user, for data that are too few or not those of the run to
    go on with, a checkpoint that does not fit, a file that cannot be written, and a loss or a weight
    that is not finite. SIGINT (Ctrl-C), SIGTERM and SIGHUP finish the iteration, save, and end in
    SystemExit(130, 143 or 129).
    """

    def __init__(self, config, parts, metrics, data, describe=None):
        self.config, self.parts, self.metrics, self.data = config, parts, metrics, data
        self.describe = describe or self._numbers
        self.rank = get_rank()
        self.log_interval = config.log_interval or (1 if data.device.type == "cpu" else 50)
        self.step = 0  # iterations since the run began
        self.epoch = self.iteration = self.seen = 0  # where it is: iterations and examples of epoch
        self.rows = []  # of metrics.csv, on the device until a block of them is full
        self.stop = 0  # the signal that asks for it

    def __enter__(self):
        with ExitStack() as stack:  # ends what has begun if something in here fails
            stack.enter_context(alone())
            self._open_folder(stack)
            self._begin(stack)
            self.closing = stack.pop_all()
        begin_training()
        return self

    def _open_folder(self, stack):
        config, data = self.config, self.data
        if largest(data.fingerprint) != data.fingerprint:
            raise RunError(f"{data.source} holds other {data.unit} here than on another machine.")
        if data.count < data.total:
            raise RunError(
                f"{data.source} gives {data.count} {data.unit}, fewer than one batch of "
                f"{data.total}; use more {data.unit} or lower batch_size."
            )
        if config.resume:
            self.folder = find_run(config)
        else:
            self.folder = from_rank_0(lambda: new_folder(config.out_dir, "run"))
        if self.rank == 0:
            stack.enter_context(locked(self.folder))
            self.inode = self.folder.stat().st_ino
        if config.resume:
            self._go_on()
        if self.rank == 0:
            remember_run(self.folder)
            self._write_config()
            self._say_hello()

    def _write_config(self):
        with atomic_write(self.folder / "config.json") as file:
            file.write(json.dumps(asdict(replace(self.config, resume="")), indent=2).encode())

    def _go_on(self):
        folder, data, config = self.folder, self.data, self.config
        path, checkpoint = from_rank_0(lambda: newest_checkpoint(folder, next(iter(self.parts))))
        try:
            for name, part in self.parts.items():
                state = checkpoint[f"{name}_state_dict"]
                if isinstance(part, torch.optim.Optimizer):
                    load_optimizer(part, state)
                else:
                    part.load_state_dict(state)
            if sum(name.endswith("_state_dict") for name in checkpoint) > len(self.parts):
                raise ValueError("parts that are not trained here would be lost")
            self.step = checkpoint["step"]
            batches = data.count // data.total
            place = *divmod(self.step, batches), self.step % batches * data.total  # in older files
            self.epoch, self.iteration, self.seen = checkpoint.get("place", place)
            same_data = checkpoint["fingerprint"] == data.fingerprint
        except (KeyError, ValueError, RuntimeError) as error:
            raise RunError(
                f"training cannot go on from {path}: it lacks optimizer states, or it has "
                "other nets than this script with config.json; start a new run."
            ) from error
        if not same_data:
            begin = f" with --init-from {quoted(folder)}" * hasattr(config, "init_from")
            told = ", or what is told of each," * (getattr(data, "labels", None) is not None)
            raise RunError(
                f"the {data.unit} in {data.source}{told} are not those that {folder} was trained on; bring "
                f"those back, name the place where they are, or start a new run{begin}."
            )
        if self.epoch + (self.iteration > 0) > config.num_epochs:
            raise RunError(
                f"num_epochs is {config.num_epochs}, but {folder} is further already; ask for more."
            )
        if self.rank == 0:
            drop_later_files(folder, self.metrics, self.epoch, self.iteration)

    def _say_hello(self):
        config, data, size = self.config, self.data, get_world_size()
        if self.epoch == config.num_epochs:
            print(
                f"{self.folder} has all of its {self.epoch} epochs; with more, as --num-epochs "
                f"{2 * self.epoch}, it goes on.",
                flush=True,
            )
            return
        batches = f"{size} x {config.batch_size}" if size > 1 else config.batch_size
        print(
            f"{'Going on' if self.step else 'Training'} on {data.device} with {data.count:,} "
            f"{data.unit} of {data.source}, {data.count // data.total:,} iterations of {batches} "
            f"{data.unit} an epoch; results go to {self.folder}",
            flush=True,
        )

    def _begin(self, stack):
        config, data = self.config, self.data
        of_epoch = data.count // data.total * data.total
        total, done = config.num_epochs * of_epoch, self.epoch * of_epoch + self.seen
        self.curves_due, self.board = 0, None
        self.bar = stack.enter_context(progress_bar(total, done, data.unit, self.rank > 0))
        if config.tensorboard and self.rank == 0:
            self.board = stack.enter_context(event_files(self.folder, self.step))
        self.writer = stack.enter_context(ThreadPoolExecutor(1))  # while the next epoch trains
        self.written = self.writer.submit(int)  # nothing so far
        self.caught = stack.enter_context(catch_signals())

    def __exit__(self, kind, *_):
        with self.closing:
            if kind is None and self.rank == 0:
                save_curves(self.folder, self.metrics, self.step)
                gif = self.folder / "generation_animation.gif"
                save_animation(self._pictures(), gif, milliseconds=500)

    def _pictures(self):
        for _, path in numbered(self.folder, "epoch_", ".png"):
            with suppress(OSError, SyntaxError, Image.DecompressionBombError):  # Pillow raises all
                yield Image.open(path).convert("RGB")  # unless it was damaged or replaced meanwhile

    def epochs(self):
        """Yield the number of each epoch that is still to be trained, or trained to its end."""
        for epoch in range(self.epoch, self.config.num_epochs):
            self.epoch = epoch
            yield epoch
            self.iteration = self.seen = 0

    def batches(self):
        """Yield the epoch's batches that have not been seen; no more of them once it is to stop.

        Before each, all random numbers are seeded from the seed, the step and the rank alone: draw
        data, noise and changes as you like, a resumed run draws the same.
        """
        batches = iter(self.data.epoch(self.epoch, self.seen))
        while True:
            seed_iteration(self.config.seed, self.step, self.rank)  # for what follows the last, too
            batch = None if self.stop else next(batches, None)
            if batch is None:
                break
            yield batch

    @property
    def epoch_done(self):
        """Whether the rest of the epoch, if there is any, is less than a batch."""
        return self.seen + self.data.total > self.data.count

    def count(self, numbers):
        """Count an iteration. numbers: its metrics, a tensor that may lie on the device.

        Raises RunError where they are not as many as metrics has names.
        """
        if len(numbers) != len(self.metrics):
            raise RunError(
                f"an iteration gave {len(numbers)} numbers for {len(self.metrics)} metrics "
                f"({', '.join(self.metrics)}); give one for each."
            )
        self.rows.append(numbers)
        self.step, self.iteration = self.step + 1, self.iteration + 1
        self.seen += self.data.total
        asked = self.caught and get_world_size() == 1
        if len(self.rows) == self.log_interval or self.epoch_done or asked:
            self._log()

    def _log(self):
        block = torch.stack(self.rows)
        self.rows.clear()
        average([block])
        block = block.tolist()  # only here the loop waits for the device
        self.stop = largest(self.caught[0] if self.caught else 0)
        if self.rank == 0:
            self._check_folder()
            write_metrics(self.folder, self.metrics, self.epoch, self.iteration - len(block), block)
            if (bad := not_finite_loss(self.metrics, block)) is not None:
                place = f"epoch {self.epoch}, iteration {self.iteration - len(block) + bad}"
                raise self._diverged(f"the loss is not finite in {place}")
            place = f"epoch {self.epoch + 1}/{self.config.num_epochs}"
            self.bar.desc = f"{place} {self.describe(block)} "
            self.bar.update(len(block) * self.data.total)
        if self.board:
            with writing(self.folder):
                for name, value in zip(self.metrics, block[-1]):
                    self.board.add_scalar(name, value, self.step)

    def _check_folder(self):
        """Raise RunError where another folder has the place of the one that this run began in."""
        if self.folder.exists() and self.folder.stat().st_ino != self.inode:
            raise RunError(
                f"{self.folder} is another run's by now, for this one's was moved or deleted; go on in its "
                "new place."
            )

    def _numbers(self, block):
        return " ".join(f"{name} {value:.2f}" for name, value in zip(self.metrics, block[-1]))

    def _diverged(self, what):
        if saved := checkpoint_paths(self.folder):
            return RunError(
                f"{what}; the last good checkpoint is {saved[-1]}: --resume goes on from there, and if "
                "this comes again, start a new run with a lower lr."
            )
        return RunError(f"{what}, and no checkpoint is there yet; start a new run with a lower lr.")

    def save_picture(self, name, draw):
        """Keep a picture of how the run began; draw() gives it, a PIL image."""
        if not self.config.resume and self.rank == 0:
            save_picture(draw(), self.folder / name)

    def end_epoch(self, draw):
        """Save what the epoch gave: a picture and a checkpoint. Where a signal asks for it, exit.

        draw: a function that gives the epoch's picture, a PIL image; called for whole epochs only.
        """
        for part in self.parts.values():
            if isinstance(part, torch.nn.Module):
                average_statistics(part)
        whole = self.epoch_done
        ending = self.stop or self.epoch + 1 == self.config.num_epochs
        due = ending or (self.epoch + 1) % self.config.checkpoint_interval == 0
        if self.rank == 0:
            picture = draw() if whole else None
            checkpoint = to_cpu(self._checkpoint(whole)) if due else None
            self.written.result()  # raises what went wrong in the epoch before
            arguments = self.epoch, self.step, picture, checkpoint
            self.written = self.writer.submit(self._write_epoch, *arguments)
            if whole and time.monotonic() > self.curves_due:
                save_curves(self.folder, self.metrics, self.step)
                self.curves_due = time.monotonic() + 60
        if ending:
            self.written.result()
        if self.stop:
            self.bar.close()
            one = get_world_size() == 1
            command = command_of(self.config) if one else "the same torchrun command and"
            print(
                f"Stopped after {self.step:,} iterations, all of it saved. "
                f"Go on with: {command} --resume {quoted(self.folder)}"
            )
            raise Stopped(128 + self.stop)

    def _checkpoint(self, whole):
        here = (self.epoch, self.iteration, self.seen)
        return {
            "epoch": self.epoch,
            "step": self.step,
            "place": (self.epoch + 1, 0, 0) if whole else here,  # where to go on
            "fingerprint": self.data.fingerprint,
            **{f"{name}_state_dict": part.state_dict() for name, part in self.parts.items()},
        }

    def _write_epoch(self, epoch, step, picture, checkpoint):
        """Write an epoch's picture and its checkpoint, each unless it is None.

        Without a picture, the checkpoint is that of an interrupted epoch. Where a weight is not
        finite, no checkpoint is written.
        """
        self._check_folder()
        if checkpoint and (name := not_finite(checkpoint)):
            raise self._diverged(f"after iteration {step} weights are not finite ({name})")
        if not (self.folder / "config.json").exists():  # deleted meanwhile, and needed to go on
            self._write_config()
        if picture is None:
            save_checkpoint(checkpoint, self.folder / "checkpoint_interrupted.pkl")
            return
        save_picture(picture, self.folder / f"epoch_{epoch:03d}.png")
        if self.board:
            with writing(self.folder):
                self.board.add_image("fixed_noise", np.asarray(picture), step, dataformats="HWC")
        if checkpoint:
            path = self.folder / f"checkpoint_{epoch}_epoch.pkl"
            save_checkpoint(checkpoint, path)
            remove_older_checkpoints(path, self.config.keep_checkpoints)


def seed_iteration(seed, step, rank=0):
    """Seed Python's, NumPy's and PyTorch's random numbers for one iteration of one process.

    They do not depend on what came before, so a resumed run goes on with the right ones.
    """
    number = int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


def drop_later_files(folder, metrics, epoch, iteration):
    """Take away what a killed run wrote after its newest checkpoint, which goes on at that place."""
    for partial in folder.glob("*.partial"):
        partial.unlink(missing_ok=True)
    for number, picture in numbered(folder, "epoch_", ".png"):
        if number >= epoch:
            picture.unlink()
    cut_metrics(folder, metrics, (epoch, iteration))
