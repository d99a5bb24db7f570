"""A distance that sees faces: Frechet distance of the features of a net that tells CelebA's attributes.

SWD looks at patches; whether eyes sit in a face, and whose they may be, it hardly sees. The net is a
small one, trained in a minute on images that are not compared, and told 40 attributes of each (smiling,
glasses, hair, ...). What its last layer but one makes of two sets of images is compared as FID compares
Inception's features (Heusel et al. 2017, arXiv:1706.08500).
"""

import zlib
from pathlib import Path

import numpy as np
import torch
from setting import ROOT  # noqa: F401  (our modules are found from here on)

from applications.common import read_attributes
from applications.nets import to_inputs, trained_face_net
from my_dataset import CelebADataset


@torch.no_grad()
def features(net, pixels):
    """Of uint8 images (N, 64, 64, 3), in float64 (N, 64)."""
    net.eval()
    blocks = (to_inputs(pixels[start : start + 256]) for start in range(0, len(pixels), 256))
    return torch.cat([net[:-1](block) for block in blocks]).double().numpy()


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
    _, labels = read_attributes(attributes, CelebADataset(data_dir, None).names)
    known = np.delete(np.arange(len(images)), np.concatenate(halves))
    number = zlib.crc32(labels[known], zlib.crc32(images[known]))
    Path(folder).mkdir(parents=True, exist_ok=True)
    net = trained_face_net(images[known], labels[known], Path(folder, f"face_net_{number:08x}.pt"))
    real = images[halves[0]]
    told = net[-1](torch.tensor(features(net, real)).float()) > 0
    right = (told.numpy() == labels[halves[0]]).mean()
    print(f"Face distance: its net tells {right:.1%} of new faces' attributes right.", flush=True)
    return FaceDistance(net, real)
