"""Random changes of images that gradients pass through, to train a GAN on few images.

DiffAugment (Zhao et al. 2020, arXiv:2006.10738): D sees real and fake images changed in the same ways,
so it cannot learn the real ones by heart, and since G learns through the changes, they do not get into
what it draws.
"""

from typing import Annotated

import torch

from machinery.constants import Range


def uniform(images, low, high):
    """A random number for each image, (N, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(images), 1, 1, 1, device=images.device)


def color(images):
    """Change brightness, saturation and contrast."""
    images = images + uniform(images, -0.5, 0.5)
    gray = images.mean(1, keepdim=True)
    images = gray + uniform(images, 0, 2) * (images - gray)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + uniform(images, 0.5, 1.5) * (images - mean)


def translation(images, share=8):
    """Shift by up to a `share`-th of the side, both ways; 0 (gray) comes in from outside."""
    n, _, _, side = images.shape
    most = side // share
    down, right = torch.randint(-most, most + 1, (2, n, 1, 1, 1), device=images.device)
    place = torch.arange(side, device=images.device)
    rows = place[:, None] == place + down  # as matrices of 0 and 1: quicker than indexing
    columns = place[:, None] + right == place
    return rows.to(images.dtype) @ images @ columns.to(images.dtype)


def cutout(images):
    """Make a square of half the side gray; it may stand out over the edge."""
    n, _, _, side = images.shape
    top, left = torch.randint(side + 1, (2, n, 1, 1), device=images.device) - side // 4
    place = torch.arange(side, device=images.device)
    rows = (top <= place[:, None]) & (place[:, None] < top + side // 2)
    columns = (left <= place) & (place < left + side // 2)
    return images * ~(rows & columns)[:, None]


def shift(images):
    """A very small translation, by 2 pixels of 64 at most. Not in the paper."""
    return translation(images, share=32)


CHANGES = {"color": color, "translation": translation, "cutout": cutout, "shift": shift}
WORDS = f"empty, or of {', '.join(CHANGES)} with commas between"
Policy = Annotated[str, Range(WORDS, lambda policy: {*names_in(policy)} <= {"", *CHANGES})]


def names_in(policy):
    """The names of CHANGES in a policy, without the blanks beside its commas."""
    return map(str.strip, policy.split(","))


def augment(images, policy):
    """Images (N, C, H, H) in [-1, 1], changed at random by each of policy: names of CHANGES,
    separated by commas. "" changes nothing. Values may leave [-1, 1]."""
    for name in filter(None, names_in(policy)):
        images = CHANGES[name](images)
    return images
