"""A distance that sees faces: Frechet distance of the features of a net that tells CelebA's attributes.

SWD looks at patches; whether eyes sit in a face, and whose they may be, it hardly sees. The net is a
small one, trained in a minute on images that are not compared, and told 40 attributes of each (smiling,
glasses, hair, ...). What its last layer but one makes of two sets of images is compared as FID compares
Inception's features (Heusel et al. 2017, arXiv:1706.08500).
"""

import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from setting import ROOT  # noqa: F401  (our modules are found from here on)
from torch import nn

from common_tools import RunError, set_seed
from machinery.files import atomic_write
from my_dataset import CelebADataset

EPOCHS, BATCH, RATE, SHIFT = 15, 64, 0.004, 4


def read_attributes(path, data_dir):
    """Whether each image of data_dir has each attribute, bool (N, 40), from list_attr_celeba.txt.

    Raises RunError where the file cannot be read or lacks an image.
    """
    try:
        rows = (line.split() for line in Path(path).read_text().splitlines()[2:])
        known = {name: [value == "1" for value in values] for name, *values in rows}
        names = [Path(name).name for name in CelebADataset(data_dir, None).names]
        return np.array([known[name] for name in names])
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} does not tell the attributes of {data_dir} ({error}).") from error


def face_net(count):
    """Images (N, 3, 64, 64) in [-1, 1] -> logits of `count` attributes, out of 64 features."""
    widths, layers = [3, 32, 64, 128, 256], []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, count))


@torch.no_grad()
def features(net, pixels):
    """Of uint8 images (N, 64, 64, 3), in float64 (N, 64)."""
    net.eval()
    blocks = (to_inputs(pixels[start : start + 256]) for start in range(0, len(pixels), 256))
    return torch.cat([net[:-1](block) for block in blocks]).double().numpy()


def to_inputs(pixels):
    return torch.tensor(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def trained_net(pixels, attributes, path):
    """A face_net trained on images, uint8 (N, 64, 64, 3); kept in the file path, for the next time."""
    set_seed(1)
    net = face_net(attributes.shape[1])
    if Path(path).exists():
        net.load_state_dict(torch.load(path, weights_only=True))
        return net
    images, labels = to_inputs(pixels), torch.tensor(attributes).float()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    size = min(BATCH, len(images))
    steps = EPOCHS * (len(images) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))[: len(images) // size * size]
        for indices in order.split(size):
            down, right, mirror = torch.randint(-SHIFT, SHIFT + 1, (3,)).tolist()
            batch = images[indices].roll((down, right), (2, 3))
            batch = batch.flip(3) if mirror > 0 else batch
            loss = F.binary_cross_entropy_with_logits(net(batch), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with atomic_write(path) as file:
        torch.save(net.state_dict(), file)
    return net


def frechet(features, others):
    """Frechet distance of two sets (N, D), each taken as a normal distribution."""
    (mean, cov), (other_mean, other_cov) = ((s.mean(0), np.cov(s.T)) for s in (features, others))
    roots = np.sqrt(np.linalg.eigvals(cov @ other_cov).real.clip(0))
    return ((mean - other_mean) ** 2).sum() + np.trace(cov) + np.trace(other_cov) - 2 * roots.sum()


class FaceDistance:
    """distance(pixels): how far faces, uint8 (N, 64, 64, 3), lie from real ones.

    Its unit is a thousandth of the total variance of the real ones' features.
    """

    def __init__(self, net, real):
        self.net, self.real = net, features(net, real)
        self.unit = np.trace(np.cov(self.real.T))

    def __call__(self, pixels):
        return 1000 * frechet(features(self.net, pixels), self.real) / self.unit


def make_distance(attributes, data_dir, images, halves, folder):
    """A FaceDistance from images[halves[0]]; its net knows only images that lie in neither half.

    attributes: path of list_attr_celeba.txt; images: all of data_dir; folder: where the net is kept,
    in a file whose name tells what it was trained on.
    Prints what share of the attributes of the first half the net tells right.
    """
    labels = read_attributes(attributes, data_dir)
    known = np.delete(np.arange(len(images)), np.concatenate(halves))
    number = zlib.crc32(labels[known], zlib.crc32(images[known]))
    net = trained_net(images[known], labels[known], Path(folder, f"face_net_{number:08x}.pt"))
    real = images[halves[0]]
    told = net[-1](torch.tensor(features(net, real)).float()) > 0
    right = (told.numpy() == labels[halves[0]]).mean()
    print(f"Face distance: its net tells {right:.1%} of new faces' attributes right.", flush=True)
    return FaceDistance(net, real)
