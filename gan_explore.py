"""A page to play with the faces that a trained DCGAN draws.

python gan_explore.py                                       # opens http://127.0.0.1:7860
python gan_explore.py --path-checkpoint netG_epoch_24.pth   # with any DCGAN checkpoint
python gan_explore.py --help                                # all constants below are also flags

A notebook has the same: from gan_explore import directions, find (latents.py).
"""

import signal

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import html
import inspect
import os
import socket
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from random import randrange
from typing import Annotated
from uuid import uuid4

import torch
import torch.nn.functional as F
import tyro
from PIL import Image

from common_tools import RunError, choose_device, run_as_script
from latents import between, directions, find, nearby, noise_of, read_photo, search, text_of
from machinery.checkpoints import checkpoint_paths, trained_runs
from machinery.constants import RUNS, Range, Seed, check_ranges
from machinery.files import numbered
from machinery.pictures import make_grid, save_animation, to_pictures
from my_dataset import MAX_FILE
from sampling import (
    find_checkpoint,
    find_discriminator,
    generate,
    latent_loop,
    load_generator,
    released,
)

Host = Annotated[str, Range("an address", bool)]
Port = Annotated[int, Range("from 1 to 65535", lambda value: 1 <= value <= 65535)]
GRID, LARGE, SMALL = 24, 256, 80  # faces of the grid; sides of a large and a small face in pixels
AXES, REACH = 6, 3.0  # sliders, and how far one goes; noise has a standard deviation of 1

__all__ = ["Config", "between", "directions", "explore", "find", "nearby", "noise_of", "read_photo"]


@dataclass
class Config:
    """A page to play with faces. Constants can be edited in gan_explore.py or given as flags."""

    path_checkpoint: str = ""  # file or folder; empty: your newest run, else released weights
    device: str = "auto"  # auto (CUDA or Apple's MPS if there is one), cpu, cuda, cuda:1, mps
    seed: Seed = 1  # of the faces that the page begins with
    host: Host = "127.0.0.1"  # this machine alone; 0.0.0.0: whoever can reach it, with no password
    port: Port = 7860  # of the page's address
    show: bool = True  # open the page in a browser


# --- checkpoints and runs, of which the page opens no others


def checkpoints(*named):
    """From a short name to the path of each checkpoint to choose: those named, those of all runs, the
    newest first, and the released one. None of them is opened."""
    paths = [path for run in trained_runs(RUNS) for path in reversed(checkpoint_paths(run))]
    paths += released()
    once = {Path(path).resolve(): str(path) for path in reversed([*named, *paths])}
    return [(str(Path(*Path(path).parts[-2:])), path) for path in reversed(once.values())]


class Nets:
    """What the page draws with: the generator of a checkpoint, its directions, and D if it has one."""

    def __init__(self, path, device):
        path, checkpoint = find_checkpoint(path)
        self.generator = load_generator(path, checkpoint).to(device)
        self.device, self.nz = device, self.generator.main[0].in_channels
        _, self.nc, self.side, _ = self.draw(torch.zeros(1, self.nz, 1, 1)).shape
        self.discriminator = None
        with suppress(RunError):  # one that cannot be built; the page does without
            net = find_discriminator(path, checkpoint)
            if net and net.main[0].in_channels == self.nc:
                self.discriminator = net.to(device)

    def draw(self, noise):
        return generate(self.generator, noise.to(self.device)).cpu()

    def faces(self, noise, side):
        """The faces of noise (N, nz, 1, 1) as PIL images of side x side pixels."""
        return [*to_pictures(self.draw(noise), side)]

    @cached_property
    def axes(self):
        return directions(self.generator)


def pictures_of(run):
    """The (epoch, path) of a run's pictures. Raises RunError for a folder that is no run of RUNS."""
    if run not in runs():
        raise RunError(f"{run} is not in the list of runs; choose one of it.")
    return numbered(run, "epoch_", ".png")


def runs():
    """The folders of all runs, the newest first."""
    return [str(path) for _, path in reversed(numbered(RUNS, "run"))]


def standing(run):
    """A line that says how far a run is, from the last row of its metrics.csv; "" if it has none."""
    with suppress(OSError, ValueError, IndexError):
        with open(Path(run, "metrics.csv"), "rb") as file:
            names = file.readline().decode().strip().split(",")
            file.seek(max(0, os.path.getsize(file.name) - 1000))
            values = file.read().decode().split("\n")[-2].split(",")  # the last whole row
        return " · ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
    return ""


# --- the page

CUTS = ("aligned", "middle", "no_face")
TEXTS = {
    "checkpoint": ("Checkpoint", "检查点"),
    "face": ("Face", "人脸"),
    "latent": ("Seed or latent vector (paste one, then Enter)", "种子或隐向量（粘贴后按回车）"),
    "more": ("More like this", "更多相似的人脸"),
    "faces": ("Faces", "人脸"),
    "seed": ("Seed", "种子"),
    "others": ("Other faces", "换一批人脸"),
    "click": ("Click a face: it is the start for all else.", "点击一张人脸，其余各页都从它开始。"),
    "directions": ("Directions", "方向"),
    "ends": (
        "The directions in which faces change most, and where each leads from this one.",
        "人脸变化最大的几个方向，以及从这张脸出发各通向哪里。",
    ),
    "z_idx": ("A single latent dimension (z_idx)", "单个隐变量维度（z_idx）"),
    "mix": ("Mix", "混合"),
    "from": ("From", "从"),
    "to": ("To", "到"),
    "take": ("Take the large face", "用左边的大图"),
    "way": ("Show the way between", "看两者之间的变化"),
    "strip": ("The way between: click a face to take it", "两者之间的变化：点击一张即可选用"),
    "animation": ("Animation", "动画"),
    "find": ("Find", "寻找"),
    "photo": ("A photo of a face", "一张人脸照片"),
    "seen": ("What of the photo is looked for", "照片中用来寻找的部分"),
    "aligned": ("Aligned as the training faces are.", "已按训练图片的方式对齐。"),
    "middle": (
        "Not aligned, as what align_faces.py needs is not installed: the middle of the photo.",
        "未对齐（没有安装 align_faces.py 所需的库）：取照片中央。",
    ),
    "no_face": ("No face was found; the middle is taken.", "没有找到人脸，取照片中央。"),
    "runs": ("Runs", "训练"),
    "run": ("Run", "训练"),
    "epoch": ("Epoch", "轮"),
    "none": (
        "There is no run yet; python gan_demo.py begins one.",
        "还没有训练；用 python gan_demo.py 开始。",
    ),
}


def load_gradio(folder):
    """The module gradio, which will send and fetch nothing, and keep its files in a folder.

    Raises RunError where it is missing.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["NO_PROXY"] = "*"  # else it looks for its own page by way of the proxy
    os.environ["GRADIO_TEMP_DIR"] = folder
    getfile = inspect.getfile

    def no_file(_):
        raise OSError

    inspect.getfile = no_file  # else it writes type stubs, which takes half of its loading time
    try:
        import gradio
    except ImportError as error:
        raise RunError(
            f"the page needs gradio ({error}); pip install -r requirements-explore.txt installs it."
        ) from error
    finally:
        inspect.getfile = getfile
    files = gradio.processing_utils

    # gradio's own (6.31) writes the same picture again, even while a browser reads it
    def save_once(image, cache_dir, name="image", format="webp"):
        with tempfile.TemporaryDirectory() as own:
            path = Path(own, f"{name}.{format}")
            image.save(path)
            return files.save_file_to_cache(path, cache_dir)

    files.save_pil_to_cache = save_once
    return gradio


def build(gr, config, folder):
    """The page, as gradio's Blocks, and its texts. folder: where it may write pictures."""
    device = choose_device(config.device)
    named = str(find_checkpoint(config.path_checkpoint)[0])
    en, zh = ({key: both[number] for key, both in TEXTS.items()} for number in (0, 1))
    text = gr.I18n(en=en, zh=zh, **{"zh-CN": zh})

    times = {named: 0}  # of the files of the checkpoints that are open

    @lru_cache(maxsize=4)
    def opened(path, _time):
        return Nets(path, device)

    def nets_of(path):
        if path not in [*times] and path not in [listed for _, listed in checkpoints()]:
            raise RunError(f"{path} is not in the list of checkpoints; choose one of it.")
        with suppress(FileNotFoundError):  # its run removes it one day: what is open stays
            times[path] = Path(path).stat().st_mtime_ns
        return opened(path, times.get(path))

    @contextmanager
    def told():
        """Let a RunError be read on the page."""
        try:
            yield
        except RunError as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from error

    # What the page does. A face goes by its text, as text_of gives it, all over the page.

    @told()
    def grid(path, seed):
        if seed is None or not 0 <= seed < 2**32:
            shown = "empty" if seed is None else seed
            raise RunError(f"seed is {shown}; it must be from 0 to 2**32 - 1.")
        names = [f"seed {seed}, face {number}" for number in range(1, GRID + 1)]
        return tiles(path, names), names, names[0]

    def tiles(path, names):
        nets = nets_of(path)
        return nets.faces(torch.cat([noise_of(name, nets.nz) for name in names]), 128)

    @told()
    def more(path, name):
        names = [
            text_of(each)
            for each in nearby(noise_of(name, nets_of(path).nz), GRID, seed=randrange(2**32))
        ]
        return tiles(path, names), names

    @told()
    def large(path, name):
        nets = nets_of(path)
        return nets.faces(noise_of(name, nets.nz), LARGE)[0]

    @told()
    def start(path, name):
        return large(path, name), name, *[0] * (AXES + 1)

    def axes_of(nets, z_idx):
        if z_idx not in range(nets.nz):
            shown = "empty" if z_idx is None else z_idx
            raise RunError(f"z_idx is {shown}; it must be from 0 to {nets.nz - 1}.")
        one = F.one_hot(torch.tensor(z_idx), nets.nz).float()
        return torch.cat([nets.axes, one.view(1, -1, 1, 1)])

    @told()
    def ends(path, base, z_idx):
        nets = nets_of(path)
        axes = REACH * axes_of(nets, z_idx)
        return nets.faces(noise_of(base, nets.nz) + torch.cat([-axes, axes]), SMALL)

    @told()
    def slide(path, base, z_idx, *values):
        nets = nets_of(path)
        shift = torch.tensor(values).view(-1, 1, 1, 1) * axes_of(nets, z_idx)
        noise = noise_of(base, nets.nz) + shift.sum(0, keepdim=True)
        return nets.faces(noise, LARGE)[0], text_of(noise)

    @told()
    def mix(path, one, other):
        nets = nets_of(path)
        one, other = noise_of(one, nets.nz), noise_of(other, nets.nz)
        way = between(one, other)
        file = str(folder / f"{uuid4().hex}.gif")  # a browser keeps what it had from an address
        loop = latent_loop(torch.cat([one, other]), 24)
        save_animation(nets.faces(loop, 256), file, milliseconds=50)
        strip = make_grid(nets.draw(way), len(way))
        return strip, [text_of(each) for each in way], file

    def look(path, photo):
        with told():
            nets = nets_of(path)
        nothing = [gr.skip()] * 2 + [gr.Markdown(visible=False)] * len(CUTS)
        try:
            yield "", None, *nothing  # of the photo before
            image, cut = read_photo(photo, nets.side, nets.nc)
        except RunError as error:
            yield html.escape(str(error)), None, *nothing
            return
        seen, notes = (
            next(to_pictures(image, 256)),
            [gr.Markdown(visible=cut == key) for key in CUTS],
        )
        yield "<progress></progress>", seen, *[gr.skip()] * 2, *notes
        looking = search(nets.generator, image, nets.discriminator)
        for number, (share, noise) in enumerate(looking):
            if number % 4 == 0 or share == 1:
                bar = f'<progress value="{share:.2f}"></progress>'
                face = nets.faces(noise, LARGE)[0]
                yield bar, gr.skip(), face, text_of(noise), *[gr.skip()] * len(CUTS)

    @told()
    def follow(run, epoch, known):
        """Show what is new, of a run that is being trained. known: what the page shows."""
        lists = checkpoints(*times), runs()
        if run not in lists[1]:  # none yet, or it is gone
            run = next(iter(lists[1]), None)
        pictures = dict(pictures_of(run)) if run else {}
        last, line = max(pictures, default=0), standing(run) if run else ""
        if known == (now := (run, last, line, lists)):
            return [gr.skip()] * 8
        if not known or known[0] != run or known[1] == epoch:  # it stands at the newest
            epoch = last
        return (
            gr.Dropdown(choices=lists[0]), gr.Dropdown(choices=lists[1], value=run),
            gr.Slider(maximum=max(last, 1), value=epoch), *at_epoch(run, epoch), line, now,
            gr.Markdown(visible=run is None),
        )  # fmt: skip

    @told()
    def at_epoch(run, epoch):
        if run is None:  # there is none yet
            return None, None
        paths = dict(pictures_of(run)).get(epoch), Path(run, "loss.png")
        return [Image.open(path) if path and path.exists() else None for path in paths]

    def pick(names, event: gr.SelectData):
        return names[event.index]

    def pick_in_strip(path, names, event: gr.SelectData):
        return names[min(event.index[0] // nets_of(path).side, len(names) - 1)]  # x in pixels

    # What it looks like
    nets_of(named)  # says what is wrong with it
    first_tiles, names, name = grid(named, config.seed)
    picture = {"format": "png", "interactive": False, "buttons": ["download"]}
    bare = {"show_label": False, "container": False}
    small = {**picture, **bare, "buttons": [], "height": SMALL}
    tiled = {"show_label": False, "allow_preview": False, "buttons": [], "interactive": False}
    with gr.Blocks(title="DCGAN", fill_width=True, delete_cache=(600, 3600)) as page:
        base, shown, on_strip, known = gr.State(name), gr.State(names), gr.State(), gr.State()
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                model = gr.Dropdown(checkpoints(named), value=named, label=text("checkpoint"))
                face = gr.Image(large(named, name), label=text("face"), elem_id="face", **picture)
                latent = gr.Textbox(
                    name, label=text("latent"), max_lines=3, buttons=["copy"], elem_id="latent"
                )
            with gr.Column(scale=3, min_width=400), gr.Tabs():
                with gr.Tab(text("faces")):
                    gr.Markdown(text("click"))
                    gallery = gr.Gallery(first_tiles, columns=6, elem_id="grid", **tiled)
                    with gr.Row():
                        seed = gr.Number(config.seed, label=text("seed"), precision=0)
                        others = gr.Button(text("others"))
                        similar = gr.Button(text("more"))
                with gr.Tab(text("directions")) as directions_tab:
                    gr.Markdown(text("ends"))
                    low, sliders, high = [], [], []
                    for number in range(AXES + 1):
                        if number == AXES:
                            with gr.Row(elem_classes="axis"):
                                gr.Markdown(text("z_idx"))
                                z_idx = gr.Number(0, precision=0, **bare)
                        with gr.Row(elem_classes="axis"):
                            low.append(gr.Image(min_width=SMALL, scale=0, **small))
                            sliders.append(gr.Slider(-REACH, REACH, 0, step=0.1, **bare))
                            high.append(gr.Image(min_width=SMALL, scale=0, **small))
                with gr.Tab(text("mix")) as mix_tab:
                    pair, slots, takes = [gr.State(each) for each in names[:2]], [], []
                    with gr.Row():
                        for key in ("from", "to"):
                            with gr.Column(min_width=200):
                                slots.append(
                                    gr.Image(label=text(key), height=220, elem_id=key, **picture)
                                )
                                takes.append(gr.Button(text("take"), elem_id=f"{key}_take"))
                    way = gr.Button(text("way"), variant="primary", elem_id="way")
                    gr.Markdown(text("strip"))
                    strip = gr.Image(show_label=False, elem_id="strip", **picture)
                    animation = gr.Image(
                        label=text("animation"), height=260, elem_id="animation", **picture
                    )
                with gr.Tab(text("find")):
                    photo = gr.File(label=text("photo"), height=130, elem_id="photo")
                    bar = gr.HTML(elem_id="bar")
                    notes = [gr.Markdown(text(key), visible=False) for key in CUTS]
                    seen = gr.Image(label=text("seen"), height=280, elem_id="seen", **picture)
                with gr.Tab(text("runs")) as runs_tab:
                    none = gr.Markdown(text("none"), visible=not runs())
                    run = gr.Dropdown([], label=text("run"))
                    epoch = gr.Slider(0, 1, 0, step=1, label=text("epoch"), elem_id="epoch")
                    line = gr.Markdown(elem_id="line")
                    of_epoch = gr.Image(label=text("epoch"), elem_id="of_epoch", **picture)
                    curves = gr.Image(show_label=False, elem_id="curves", **picture)
                    timer = gr.Timer(5)

        # What leads to what
        ending = {"fn": ends, "inputs": [model, base, z_idx], "outputs": [*low, *high]}
        quiet = {"show_progress": "hidden"}
        looked = photo.upload(look, [model, photo], [bar, seen, face, latent, *notes], **quiet)
        looked.then(lambda: None, None, photo)  # so that there is a place for the next one
        # Another checkpoint may have another nz, and other faces
        begin, cleared = (0, *names[:2], None, None), [z_idx, *pair, strip, animation]
        model.input(lambda: begin, None, cleared, cancels=[looked], **quiet)
        new_seed = others.click(lambda seed: ((seed or 0) + 1) % 2**32, seed, seed, **quiet)
        for event in (
            *(event(grid, [model, seed], [gallery, shown, latent], **quiet)
              for event in (model.input, seed.submit, new_seed.then)),
            gallery.select(pick, shown, latent, **quiet),
            strip.select(pick_in_strip, [model, on_strip], latent, **quiet),
            looked,
            latent.submit(lambda: None),
        ):  # fmt: skip
            event = event.success(start, [model, latent], [face, base, *sliders], **quiet)
            event.success(**ending, **quiet)
        similar.click(more, [model, latent], [gallery, shown], **quiet)
        gr.on([directions_tab.select, z_idx.change], **ending, **quiet)
        for slider in sliders:
            slider.input(
                slide, [model, base, z_idx, *sliders], [face, latent],
                trigger_mode="always_last", queue=False, **quiet,
            )  # fmt: skip
        for name, slot, take in zip(pair, slots, takes):
            drawn = take.click(lambda name: name, latent, name, **quiet).then
            for event in (drawn, mix_tab.select):
                event(large, [model, name], slot, **quiet)
        way.click(mix, [model, *pair], [strip, on_strip, animation], **quiet)
        gr.on(
            [page.load, runs_tab.select, timer.tick, run.input],
            follow,
            [run, epoch, known], [model, run, epoch, of_epoch, curves, line, known, none], **quiet,
        )  # fmt: skip
        epoch.input(at_epoch, [run, epoch], [of_epoch, curves], **quiet)
    return page, text


def explore(config: Config):
    """Show the page until Ctrl-C. Raises RunError, with a sentence for the user, for bad input."""
    check_ranges(config)
    try_port(config)
    with tempfile.TemporaryDirectory() as folder:  # uploads and pictures, until it ends
        gr = load_gradio(folder)
        page, text = build(gr, config, Path(folder))
        fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
        try:
            page.launch(
                server_name=config.host, server_port=config.port, inbrowser=config.show,
                prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False, mcp_server=False,
                enable_monitoring=False, run_history=False, footer_links=[], i18n=text, css=CSS,
                theme=gr.themes.Default(primary_hue="slate", **fonts), max_file_size=MAX_FILE,
            )  # fmt: skip
            print(
                f"Open http://{config.host}:{config.port} in a browser; Ctrl-C ends it.", flush=True
            )
            threading.Event().wait()
        except OSError:
            try_port(config)  # says that another page has taken it while this one was made
            raise
        finally:
            page.close(verbose=False)


def try_port(config):
    """Raise RunError where the page's address cannot be used."""
    try:
        with socket.create_server((config.host, config.port)):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).split(" (")[0]
        raise RunError(
            f"port {config.port} of {config.host} cannot be used ({reason}); if the page is "
            "open already, use that, else name another with --port."
        ) from error


CSS = """
.gradio-container { max-width: 1240px !important; width: 100%; margin: auto }
.gradio-container main { width: 100%; max-width: 100% !important }
#face .image-frame, #face img { width: 100% !important; height: auto !important; object-fit: cover }
#grid .grid-wrap { max-height: none; overflow: visible }
.axis { align-items: center }
progress { width: 100% }
"""


def main():
    explore(tyro.cli(Config))


if __name__ == "__main__":
    run_as_script(main)
