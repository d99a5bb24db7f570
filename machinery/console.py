"""What the user sees of a script: one sentence where something is wrong, signals, a progress bar."""

import io
import os
import re
import shlex
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm


class RunError(Exception):
    """What is wrong, where, and what to do about it, in one sentence for the user."""

    told = False  # whether another process has said it already

    def __init__(self, sentence):
        # A cause may be of several lines
        super().__init__(re.sub(r"\s*\n\s*", " ", sentence.strip()))


class Stopped(SystemExit):
    """The end of a run that a signal stopped; all processes of a job come to it together."""


def run_as_script(main):
    """Call main(); a RunError becomes its sentence on stderr and exit 2, Ctrl-C exit 130.

    So does what sentence_of knows.

    SIGTERM and SIGHUP (a closed terminal) exit with 143 and 129 and, unlike by default, clean up on
    the way. Output that nobody can read any more is no error.
    """
    sys.stdout, sys.stderr = _Patient(sys.stdout), _Patient(sys.stderr)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in heeded_signals() - {signal.SIGINT}:
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        known = error if isinstance(error, RunError) else sentence_of(error)
        if not known:
            raise
        if not known.told:
            print(f"{Path(sys.argv[0]).name}: {known}", file=sys.stderr)
        sys.exit(2)
    finally:
        for number in heeded_signals() - {signal.SIGINT}:  # nothing is left to be cleaned up
            signal.signal(number, signal.SIG_DFL)


def sentence_of(error):
    """A RunError for a file that the system refuses, wherever that was, and for too little memory;
    None for any other error."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        advice = "allow it to be read and written"
        if not isinstance(error, PermissionError):
            advice = "look at what is there"
        return RunError(
            f"{error.filename} cannot be used ({error.strerror}); {advice}, or name another place."
        )
    words = f"{type(error).__name__} {error}"  # PyTorch has several kinds
    if isinstance(error, MemoryError) or re.search("OutOfMemoryError|alloc.* memory", words):
        return RunError(
            "there is not enough memory for this; lower batch_size or num_img, or image_size, nz, ngf "
            "and ndf of a new run."
        )
    return None


class _Patient:
    """A stream that may be closed, or of an encoding that lacks some letters: nothing ends by that."""

    def __init__(self, stream):
        self.stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text):
        with suppress(OSError, ValueError, AttributeError):  # None has no write
            self.stream.write(text)

    def flush(self):
        with suppress(OSError, ValueError, AttributeError):
            self.stream.flush()

    def isatty(self):
        return self.stream is not None and self.stream.isatty()

    def __getattr__(self, name):
        return getattr(self.stream or io.StringIO(), name)


def command_of(config):
    """The command that runs the script which a config belongs to: python gan_demo.py."""
    module = sys.modules[type(config).__module__]
    file = getattr(module, "__file__", None)
    if not file or not Path(file).is_file():  # of a notebook
        return "the same lines and"
    name = module.__spec__.name if module.__spec__ else Path(file).stem
    return f"python -m {name}" if "." in name else command(file)


def command(script):
    """The command that runs a script, from the folder that one is in: python gan_inference.py."""
    script = os.path.abspath(script)
    with suppress(OSError, ValueError):  # the folder that one is in is gone, or on another drive
        script = min(os.path.relpath(script), script, key=len)
    return f"python {quoted(script)}"


def quoted(path):
    """A path as it has to be typed in a command."""
    if os.name == "nt":
        return f'"{path}"' if " " in str(path) else str(path)
    return shlex.quote(str(path))


def heeded_signals():
    """The signals that stop a script; without those that it is to ignore (nohup, &)."""
    names = "SIGINT", "SIGTERM", "SIGHUP"  # Windows has no SIGHUP
    numbers = {getattr(signal, name) for name in names if hasattr(signal, name)}
    return {number for number in numbers if signal.getsignal(number) != signal.SIG_IGN}


@contextmanager
def catch_signals():
    """Inside the block, Ctrl-C, SIGTERM and SIGHUP only go into the list that it yields.

    A second Ctrl-C interrupts at once, as usual. In a thread other than the main one no signal
    arrives, and nothing changes.
    """
    caught = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number, _frame):
        caught.append(number)
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    before = {number: signal.signal(number, note) for number in heeded_signals()}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Lines:
    """A file for tqdm that makes each state of the bar a line, for output that is no terminal."""

    def write(self, text):
        if text.strip():
            print(text.strip(), file=sys.stderr, flush=True)

    def flush(self):
        pass


def progress_bar(total, done, unit="images", disable=False):
    """A tqdm bar that counts images; where stderr is no terminal, a plain line each half minute."""
    if disable:
        return tqdm(disable=True)
    if sys.stderr.isatty():  # figures first: in a window of 80 columns they leave no room for a bar
        line = "{desc}{rate_fmt} {remaining} {bar}"
        short = {"images": "img"}.get(unit, unit)
        options = {"unit": short, "unit_scale": True, "dynamic_ncols": True}
    else:
        line = f"{{desc}}{{n_fmt}}/{{total_fmt}} {unit}, {{rate_fmt}}, {{remaining}} left"
        options = {
            "unit": f" {unit}", "mininterval": 30, "miniters": 1, "delay": 1, "file": _Lines(),
        }  # fmt: skip
    with catch_signals() as caught:  # half made, a bar would complain on its way out
        bar = tqdm(total=total, initial=done, bar_format=line, **options)
    for number in caught:
        signal.raise_signal(number)
    return bar
