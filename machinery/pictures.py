"""Pictures: images as a grid, pictures as an animation."""

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import pad

from machinery.files import atomic_write


def to_pixels(images):
    """Images (N, nc, H, W) in [-1, 1] -> pixels (N, nc, H, W), uint8 on the CPU."""
    return ((images.cpu() * 0.5 + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)


def to_pictures(images, side=None):
    """Images (N, nc, H, W) in [-1, 1] -> PIL images, resized to side x side pixels if it is set."""
    for pixels in to_pixels(images).permute(0, 2, 3, 1):
        picture = Image.fromarray(pixels.squeeze(-1).numpy())
        yield picture.resize((side, side), Image.Resampling.BICUBIC) if side else picture


def make_grid(images, per_row=8):
    """Images (N, nc, H, W) in [-1, 1] -> one RGB picture (a PIL image) of rows of them."""
    columns = min(per_row, len(images))
    missing = -len(images) % columns  # in the last row
    tiles = to_pixels(images).expand(-1, 3, -1, -1)
    tiles = pad(tiles, (2, 0, 2, 0, 0, 0, 0, missing))  # a black line left of and above each
    rows = tiles.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4)  # (3, rows, H, columns, W)
    grid = pad(rows.flatten(3).flatten(1, 2), (0, 2, 0, 2))
    return Image.fromarray(grid.permute(1, 2, 0).numpy())


def picture_of(figure):
    """A figure of matplotlib as an RGB picture (a PIL image)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to load

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def save_picture(picture, path, make_folder=False):
    """Save a PIL image as PNG; see atomic_write."""
    with atomic_write(path, make_folder=make_folder) as file:
        picture.save(file, format="PNG")


def save_grid(images, path, per_row=8):
    """Save images (N, nc, H, W) in [-1, 1] as one PNG of rows."""
    save_picture(make_grid(images, per_row), path)


def save_animation(pictures, path, milliseconds):
    """Save PIL images as a GIF that repeats, each shown for so many milliseconds; if there are any."""
    # Pillow's own choice of 256 colors takes sixty times as long.
    octree = Image.Quantize.FASTOCTREE
    frames = [picture.convert("RGB").quantize(method=octree) for picture in pictures]
    if frames:
        options = {"append_images": frames[1:], "duration": milliseconds, "loop": 0}
        with atomic_write(path) as file:
            frames[0].save(file, format="GIF", save_all=True, **options)
