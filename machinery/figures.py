"""Figures of images: how far two sets of them lie apart, and how strong their contrast is."""

import numpy as np
import torch
import torch.nn.functional as F

# --- sliced Wasserstein distance (Karras et al. 2018, arXiv:1710.10196, section 5)


def laplacian_pyramid(images, smallest=16):
    """The details of images (N, C, H, W) at each scale, a list from (H, W) down to `smallest`.

    Each level is what the next, half as large, cannot show; the last holds the rest (Burt and
    Adelson 1983). Their sum, each enlarged, is the images.
    """
    levels = []
    while images.shape[-1] > smallest:
        half = _blur(images)[..., ::2, ::2]
        levels.append(images - _enlarge(half))
        images = half
    return [*levels, images]


def _blur(images):
    channels = images.shape[1]
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    kernel = torch.outer(line, line).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=channels)


def _enlarge(images):
    dotted = images.new_zeros(*images.shape[:2], 2 * images.shape[2], 2 * images.shape[3])
    dotted[..., ::2, ::2] = images
    return 4 * _blur(dotted)


def patches(images, random, count=128, size=7):
    """`count` patches of each image (N, C, H, W) at random places: (N * count, size, size, C)."""
    n, _, height, width = images.shape
    top = torch.randint(height - size + 1, (n, count, 1, 1), generator=random)
    left = torch.randint(width - size + 1, (n, count, 1, 1), generator=random)
    rows = top + torch.arange(size)[:, None]
    columns = left + torch.arange(size)
    index = torch.arange(n)[:, None, None, None]
    return images.permute(0, 2, 3, 1)[index, rows, columns].flatten(0, 1)


def descriptors(pixels, seed=1):
    """What swd compares: patches of every level of the images' pyramids, as a dict.

    pixels: uint8 (N, H, W, C). From the side of each level, H down to 16, to (N * 128, 147) for RGB;
    over all of them each channel has mean 0 and standard deviation 1.
    """
    random, blocks = torch.Generator().manual_seed(seed), []
    for start in range(0, len(pixels), 256):  # in float32 all of them may take too much memory
        images = torch.tensor(pixels[start : start + 256]).permute(0, 3, 1, 2).float()
        blocks.append([patches(level, random) for level in laplacian_pyramid(images)])
    found = {}
    for level, cut in enumerate(map(torch.cat, zip(*blocks))):
        deviation, mean = torch.std_mean(cut, dim=(0, 1, 2))
        points = (cut - mean) / deviation.clamp(min=1e-8)
        found[pixels.shape[1] >> level] = points.flatten(1)
    return found


def sliced_wasserstein(points, others, random, directions=512):
    """Mean distance of two sets of points (N, D) as seen along random directions.

    Along one direction it is the mean of |a - b| over the sorted pairs (Rabin et al. 2011).
    """
    distances = []
    for _ in range(0, directions, 64):
        axes = F.normalize(torch.randn(points.shape[1], 64, generator=random), dim=0)
        # NumPy sorts ten times as fast as torch does on a CPU.
        one, other = (np.sort((each @ axes).T.numpy()) for each in (points, others))
        distances.append(np.abs(one - other).mean(dtype=np.float64))
    return float(np.mean(distances))


def swd(points, others, seed=1):
    """Sliced Wasserstein distance x 1000 for each scale, from the descriptors of two image sets.

    It is 0 for the same images. What two sets of real images have is what chance makes of it.
    """
    random = torch.Generator().manual_seed(seed)
    return {side: 1000 * sliced_wasserstein(points[side], others[side], random) for side in points}


# --- other figures


def contrast(pixels):
    """Mean over the images (N, H, W, C), uint8, of the standard deviation of an image's values.

    SWD looks at normalised patches and does not see it.
    """
    return float(np.mean([image.std() for image in pixels]))


def psnr(pixels, others):
    """Peak signal-to-noise ratio in dB: mean over pairs of images (N, H, W, C), uint8, at most 100."""
    squares = [np.square(np.subtract(*pair, dtype=float)).mean() for pair in zip(pixels, others)]
    return float(np.mean(10 * np.log10(255**2 / np.maximum(squares, 255**2 / 1e10))))


def ssim(pixels, others, sigma=1.5):
    """Structural similarity (Wang et al. 2004) around each pixel of pairs of images (N, H, W, C), uint8:
    (N, H, W), the mean over the channels, 1 where both are the same.

    Around is a Gaussian of 11 x 11 pixels; images are mirrored at the edge.
    """
    line = torch.exp(-(torch.arange(-5.0, 6, dtype=torch.float64) ** 2) / (2 * sigma**2))
    kernel = torch.outer(line, line)[None, None] / line.sum() ** 2

    def around(images):
        padded = F.pad(images.flatten(0, 1)[:, None], (5, 5, 5, 5), mode="reflect")
        return F.conv2d(padded, kernel)[:, 0].unflatten(0, images.shape[:2])

    a, b = (torch.tensor(each).permute(0, 3, 1, 2).double() for each in (pixels, others))
    mean_a, mean_b = around(a), around(b)
    both = around(a * b) - mean_a * mean_b
    spread = around(a * a) - mean_a**2 + around(b * b) - mean_b**2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    means = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (means * (2 * both + c2) / (spread + c2)).mean(1).numpy()


def nearest(pixels, others):
    """Of each image (n, H, W, C), the one of others (N, H, W, C) with the least squared difference.

    Both uint8; others may be memory-mapped. Gives (n, H, W, C).
    """
    wanted = torch.tensor(pixels).flatten(1).float()
    starts = range(0, len(others), 1024)
    blocks = (torch.tensor(others[start : start + 1024]).flatten(1).float() for start in starts)
    distances = torch.cat([torch.cdist(wanted, block) for block in blocks], dim=1)
    return others[distances.argmin(dim=1).numpy()]


def print_table(rows):
    """Print {name: {column: number}} with aligned columns; a row may lack some of them."""
    width = max(map(len, rows))
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    print(" " * width, *(f"{column:>9}" for column in columns))
    for name, figures in rows.items():
        cells = (f"{figures[each]:9.2f}" if each in figures else " " * 9 for each in columns)
        print(f"{name:{width}}", *cells)
