"""What the user sees of a script: one sentence where something is wrong, signals, a progress bar."""

import signal
import sys
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm


class RunError(Exception):
    """What is wrong, where, and what to do about it, in one sentence for the user."""

    def __init__(self, sentence):
        super().__init__(" ".join(sentence.split()))  # a cause may be of several lines


class Stopped(SystemExit):
    """The end of a run that a signal stopped; all processes of a job come to it together."""


def run_as_script(main):
    """Call main(); a RunError becomes its sentence on stderr and exit 2, Ctrl-C exit 130.

    SIGTERM exits with 143 and, unlike by default, cleans up on the way.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except RunError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def command_of(config):
    """The command that runs the script which a config belongs to: python gan_demo.py."""
    module = sys.modules[type(config).__module__]
    name = module.__spec__.name if module.__spec__ else Path(module.__file__).stem
    return f"python -m {name}" if "." in name else f"python {name}.py"


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
        options = {"unit": f" {unit}", "mininterval": 30, "delay": 1, "file": _Lines()}
    with catch_signals() as caught:  # half made, a bar would complain on its way out
        bar = tqdm(total=total, initial=done, bar_format=line, **options)
    for number in caught:
        signal.raise_signal(number)
    return bar
