"""All nine applications, one after the other, in the order of the chapter, and a page of what they learnt.

python -m applications.all          # goes on where it was interrupted; what has ended is not trained again
python -m applications.all --help   # every constant below is also a flag
"""

import ast
import html
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

if __name__ == "__main__" and not __spec__:  # started as a file, not by -m
    sys.path.append(f"{sys.path[0]}/..")
from common_tools import RunError, run_as_script
from machinery.checkpoints import checkpoint_paths, trained_runs
from machinery.console import quoted
from machinery.constants import Place, check_ranges
from machinery.files import atomic_write, numbered

NAMES = {
    "pose": "Pose", "cyclegan": "CycleGAN", "pixeldtgan": "PixelDTGAN", "srgan": "SRGAN",
    "progan": "Progressive GAN", "stackgan": "StackGAN", "context_encoder": "Context Encoder",
    "pix2pix": "Pix2Pix", "icgan": "IcGAN",
}  # fmt: skip
FIGURES = "figures.json"  # what a run writes last


@dataclass
class Config:
    """Train all nine applications, each as its own command does, and show them on a page."""

    out_dir: Place = "log_gan"  # a folder for each application in here, and applications.html
    device: str = "auto"  # auto (CUDA or Apple's MPS if there is one), cpu, cuda, cuda:1, mps


def train_all(config: Config) -> Path:
    """Train what has not been trained to its end in out_dir, and write the page, which is returned.

    Raises RunError where a training does not come to its end.
    """
    check_ranges(config)
    page, minutes = Path(config.out_dir) / "applications.html", {}
    for number, name in enumerate(NAMES, 1):
        folder = Path(config.out_dir) / name
        run = next(trained_runs(folder), None)
        if run and figures_of(run):
            print(f"{NAMES[name]} ({number} of {len(NAMES)}) has been trained: {run}", flush=True)
            continue
        print(f"Training {NAMES[name]} ({number} of {len(NAMES)})", flush=True)
        flags = ["--resume", "latest"] if run else []
        began = time.monotonic()
        code = train_one(name, [*flags, "--out-dir", str(folder), "--device", config.device])
        if code:
            raise RunError(
                f"{NAMES[name]} has not been trained to its end (exit {code}); mend what it says "
                "above, and run this again: it goes on from there."
            )
        if not flags:
            minutes[name] = (time.monotonic() - began) / 60
        write_page(page, minutes)
    write_page(page, minutes)
    print(f"All nine are shown on {quoted(page)}; open it in a browser.")
    return page


def figures_of(run):
    """What a run has kept as its figures; None if it has not ended, or has gone on since then."""
    try:
        kept = json.loads((run / FIGURES).read_text())
        ended = (run / FIGURES).stat().st_mtime >= checkpoint_paths(run)[-1].stat().st_mtime
        return kept if ended and kept["figures"] and kept["images"] else None
    except (OSError, ValueError, TypeError, LookupError):
        return None


def train_one(name, flags):
    """Train an application in a process of its own, from where this one was started. Returns its exit
    code; stopped meanwhile, it waits until that process has saved what it has learnt."""
    process = subprocess.Popen([sys.executable, "-m", f"applications.{name}", *flags])
    try:
        return process.wait()
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit):  # while Ctrl-C comes to both of them
            process.terminate()
        process.wait()
        raise


def write_page(page, minutes):
    """Write the page: of each run that has ended its newest picture and its figures, as HTML.

    minutes: how long those took that were trained from their beginning to their end.
    """
    parts = ["<!doctype html><meta charset=utf-8><title>Nine applications of GANs</title>"]
    parts.append("<style>body{font:16px sans-serif;margin:2em auto;max-width:1100px}img{max-width:100%}"
                 "td,th{padding:.2em 1em;text-align:right}th:first-child{text-align:left}</style>")  # fmt: skip
    for name, title in NAMES.items():
        run = next(trained_runs(page.parent / name), None)
        if not run or not (kept := figures_of(run)):
            continue
        source = Path(__file__).with_name(f"{name}.py").read_text("utf-8")
        words = ast.get_docstring(ast.parse(source)).split("\n\n")[0]
        took = f" Trained in {minutes[name]:.0f} minutes." if name in minutes else ""
        parts.append(f"<h2>{title}</h2><p>{html.escape(words)}{took}</p>")
        for _, picture in numbered(run, "epoch_", ".png")[-1:]:
            parts.append(f'<img src="{html.escape(picture.relative_to(page.parent).as_posix())}">')
        parts.append(as_table(kept))
    with atomic_write(page, make_folder=True) as file:
        file.write("\n".join(parts).encode())


def as_table(kept):
    """What save_figures keeps, as a table of HTML."""
    columns = list(dict.fromkeys(name for row in kept["figures"].values() for name in row))
    head = "".join(f"<th>{html.escape(name)}" for name in columns)
    rows = [f"<p>On {kept['images']:,} images that were not trained on:</p><table><tr><th>{head}"]
    for name, row in kept["figures"].items():
        cells = "".join(f"<td>{row[c]:.2f}" if c in row else "<td>" for c in columns)
        rows.append(f"<tr><th>{html.escape(name)}{cells}")
    return "\n".join([*rows, "</table>"])


def main():
    train_all(tyro.cli(Config, prog="python -m applications.all"))


if __name__ == "__main__":
    run_as_script(main)
