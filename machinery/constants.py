"""The constants of a script, each declared once: type, range, default and meaning in one line.

    num_epochs: Free[Count] = 20  # times through all the images

They are edited there, or given as flags: the comment is the flag's help, and a value out of its range
ends in a sentence.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass, make_dataclass, replace
from inspect import get_annotations
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import numpy as np
import tyro

from machinery.checkpoints import checkpoint_paths, trained_runs
from machinery.console import RunError
from machinery.files import writing
from machinery.processes import alone, from_rank_0, joined_processes

RUNS = "log_gan"  # where runs are kept


@dataclass(frozen=True)
class Range:
    """Which values a constant may have: in words, after "it must be", and as a function."""

    words: str
    holds: Callable[[Any], bool]


def one_of(names):
    """The range of a few values, from each to its name: {1: "1 (gray)", 3: "3 (RGB)"}."""
    *others, last = names.values()
    return Range(f"{', '.join(others)} or {last}", names.__contains__)


Place = Annotated[str, Range("a path", bool)]
Count = Annotated[int, Range("1 or more", lambda value: value >= 1)]
OrAll = Annotated[int, Range("0 (all) or more", lambda value: value >= 0)]
OrNever = Annotated[int, Range("0 (never) or more", lambda value: value >= 0)]
ByDevice = Annotated[int, Range("0 (by the device) or more", lambda value: value >= 0)]
Seed = Annotated[int, Range("from 0 to 2**32 - 1", lambda value: 0 <= value < 2**32)]
Share = Annotated[float, Range("from 0 to 1", lambda value: 0 <= value <= 1)]
Below1 = Annotated[float, Range("at least 0 and below 1", lambda value: 0 <= value < 1)]
Rate = Annotated[float, Range("above 0 and at most 1", lambda value: 0 < value <= 1)]
Weight = Annotated[float, Range("from 0 to 1000", lambda value: 0 <= value <= 1000)]  # of a loss

FREE = "may differ when a run goes on, while any other constant would make it another run"
T = TypeVar("T")
Free = Annotated[T, FREE]


@dataclass
class RunConfig:
    """The constants of every run. A script's Config adds its own, num_epochs and batch_size among
    them, and may give these another default."""

    seed: Seed = 1  # same seed, same run
    device: Free[str] = "auto"  # auto (CUDA or Apple's MPS if there is one), cpu, cuda, cuda:1, mps
    out_dir: Free[Place] = RUNS  # each run gets a folder of its own in here: run1, run2, ...
    checkpoint_interval: Free[Count] = 1  # epochs from one checkpoint to the next
    keep_checkpoints: Free[OrAll] = 3  # how many of the newest checkpoints to keep (0: all)
    log_interval: Free[ByDevice] = 0  # iterations between looks at losses (0: 1 on a CPU, else 50)
    tensorboard: Free[bool] = False  # write TensorBoard event files too
    resume: Free[str] = ""  # run folder to go on with, or "latest" for the newest in out_dir


def metadata(config_class, name):
    """What stands beside a constant's type, in its class or in those that it comes from."""
    hints = [get_type_hints(base, include_extras=True).get(name) for base in config_class.__mro__]
    return [note for hint in hints for note in getattr(hint, "__metadata__", ())]


TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def check_ranges(config):
    """Raise RunError for a constant that is of another type than it must be, or out of its range.

    "~" at the beginning of a text is the user's folder, as in a shell.
    """
    kinds = get_type_hints(type(config))
    for name in untyped(type(config)):
        raise RunError(
            f"{name} in {type(config).__name__} has no type, so it is no constant; write {name}: "
            f"{type(getattr(config, name)).__name__} = ..., or what type it has."
        )
    for name in (field.name for field in fields(config)):
        kind, value, notes = kinds[name], getattr(config, name), metadata(type(config), name)
        if kind == int | None and value is not None:
            kind = int
        if kind is str and isinstance(value, os.PathLike):  # as train() returns one
            value = os.fspath(value)
            setattr(config, name, value)
        if kind is str and isinstance(value, str) and value.startswith("~"):
            value = os.path.expanduser(value)
            setattr(config, name, value)
        if isinstance(value, np.generic):
            value = value.item()
            setattr(config, name, value)
        if isinstance(value, str) and "\0" in value:
            raise RunError(f"{name} has a null character in it; write it without.")
        if kind in TYPES:
            fits = isinstance(value, (int, float) if kind is float else kind)
            if not fits or isinstance(value, bool) != (kind is bool):
                raise RunError(f"{name} is {value!r}; it must be {TYPES[kind]}.")
        for note in notes:
            if isinstance(note, Range) and not note.holds(value):
                shown = "empty" if value == "" else value
                raise RunError(f"{name} is {shown}; it must be {note.words}.")


def untyped(config_class):
    """The names that stand in a dataclass, or those that it comes from, as constants without a type."""
    return [
        name
        for base in config_class.__mro__
        if is_dataclass(base)
        for name, value in vars(base).items()
        if name not in get_annotations(base)
        and not name.startswith("_")
        and not callable(value)
        and not isinstance(value, (property, classmethod, staticmethod))
    ]


def check_config(config):
    """Raise RunError for a constant out of its range, one that a resumed run forbids to change,
    an output folder that cannot be written, or another run that this process trains already."""
    with alone():  # before this one takes random numbers from it
        pass
    from_rank_0(lambda: _check_config(config))


def _check_config(config):
    check_ranges(config)
    folder = find_run(config) if config.resume else Path(config.out_dir)
    if config.resume:
        saved = asdict(saved_config(type(config), config.resume, config.out_dir))
        for name, asked in asdict(config).items():
            if asked != saved[name] and FREE not in metadata(type(config), name):
                asked, was = ("nothing" if each == "" else each for each in (asked, saved[name]))
                raise RunError(
                    f"{name} is {asked}, but {config.resume} was trained with {was}; "
                    "leave it as it was or start a new run."
                )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


# --- a run to go on with


def find_run(config):
    """The folder of the run to go on with: resume or, for "latest", the newest with a checkpoint."""
    if config.resume != "latest":
        return Path(config.resume).expanduser()
    if newest := next(trained_runs(Path(config.out_dir).expanduser()), None):
        return newest
    raise RunError(f"{config.out_dir} has no run to go on with; start one without --resume.")


def saved_config(config_class, resume, out_dir):
    """The Config of a run to go on with: its config.json, and resume set to the run's folder.

    A constant that it lacks is as in config_class.OLDER, else the default; those in GONE are passed
    over. Raises RunError where there is no such run.
    """
    run = find_run(config_class(resume=resume, out_dir=out_dir))
    if not (run / "config.json").is_file():
        or_else = ", or give a file to --init-from" * hasattr(config_class, "init_from")
        raise RunError(
            f"{run} is no run to go on with: it has no config.json; name a run's folder, as "
            f"{Path(RUNS, 'run1')}{or_else}."
        )
    try:
        saved = json.loads((run / "config.json").read_text("utf-8-sig"))
        if not isinstance(saved, dict):
            raise TypeError("it holds no constants by their names")
        names = {field.name for field in fields(config_class)}
        older, gone = getattr(config_class, "OLDER", {}), getattr(config_class, "GONE", set())
        if strange := sorted(saved.keys() - names - gone):
            raise ValueError(
                f"it is of another script, for this one has no {strange[0]}; if it had it once, put that "
                "back, or take it out of there"
            )
        known = {name: value for name, value in saved.items() if name in names}
        config = config_class(**older | known | {"resume": str(run)})
        check_ranges(config)
        return config
    except (OSError, ValueError, TypeError, RecursionError, RunError) as error:
        raise RunError(
            f"{run} is no run to go on with: its config.json cannot be read ({error})."
        ) from error


# --- flags


def config_from_flags(config_class, recipes=None, own_run="", program=None):
    """The constants with this call's flags; for a run to go on with, flags on its config.json.

    recipes: what --recipe may name: constants that are set together. A flag beside it wins.
    own_run: the run that this job of torchrun had begun before it was started again; "" if none.
    program: how it is called, for its help; by default its file's name.
    """
    check_ranges(config_class())  # what was edited, before tyro complains of it in its own way
    recipes = {"default": {}, **(recipes or {})}
    help_text = tyro.conf.arg(help="constants that are set together")
    call = [("config", tyro.conf.OmitArgPrefixes[config_class])]
    if len(recipes) > 1:
        call += [("recipe", Annotated[Literal[tuple(recipes)], help_text], "default")]
    told = tyro.cli(make_dataclass("Call", call), prog=program, description=config_class.__doc__)
    asked, recipe = told.config, recipes[getattr(told, "recipe", "default")]

    resume = asked.resume
    if own_run and resume in ("", "latest"):  # which may be another one by now
        resume = own_run if checkpoint_paths(own_run) else ""
    base = saved_config(config_class, resume, asked.out_dir) if resume else config_class()
    if resume:  # what may differ stays as the run has it, unless a flag asks for it
        recipe = {
            name: value
            for name, value in recipe.items()
            if FREE not in metadata(config_class, name)
        }
    given = [word[2:].partition("=")[0].replace("-", "_") for word in sys.argv if word[:2] == "--"]
    if "resume" in given and not asked.resume:
        raise RunError('resume is empty; name a run folder, or "latest".')
    flags = {
        name: value for name, value in asdict(asked).items() if {name, f"no_{name}"} & {*given}
    }
    return replace(base, **recipe | flags | {"resume": base.resume})


def train_as_told(train, config_class, recipes=None, program=None):
    """What a training script does: train(config), with the constants that the command line gives.

    Started by torchrun, all of its processes train together.
    """
    with joined_processes() as own_run:
        train(from_rank_0(lambda: config_from_flags(config_class, recipes, own_run, program)))
