"""Nets that several applications are made of."""

from itertools import pairwise

import torch
from torch import nn


class UNet(nn.Module):
    """Images (N, channels_in, H, W) -> (N, channels_out, H, W) in [-1, 1] (Ronneberger et al. 2015,
    arXiv:1505.04597).

    Each stage of the encoder halves the sides and has one of the widths, each of the decoder doubles
    them again; it takes in what the one before it made and, by a skip, what the encoder had at this
    size, so that no detail has to go through the middle. middle: a net for what is smallest. dropout:
    the share of it in the two lowest stages of the decoder.
    """

    def __init__(self, channels_in, channels_out, widths, middle, dropout=0):
        super().__init__()
        first = nn.Conv2d(channels_in, widths[0], 4, 2, 1)
        self.encoder = nn.ModuleList([nn.Sequential(first, nn.LeakyReLU(0.2))])
        self.decoder = nn.ModuleList()
        for narrow, wide in pairwise(widths):
            convolution = nn.Conv2d(narrow, wide, 4, 2, 1, bias=False)
            layers = convolution, nn.BatchNorm2d(wide), nn.LeakyReLU(0.2)
            self.encoder.append(nn.Sequential(*layers))
        for place, (wide, narrow) in enumerate(pairwise(widths[::-1])):
            both = wide if place == 0 else 2 * wide
            convolution = nn.ConvTranspose2d(both, narrow, 4, 2, 1, bias=False)
            layers = [convolution, nn.BatchNorm2d(narrow), nn.ReLU()]
            if dropout and place < 2:
                layers.append(nn.Dropout(dropout))
            self.decoder.append(nn.Sequential(*layers))
        self.middle = middle
        self.last = nn.ConvTranspose2d(2 * widths[0], channels_out, 4, 2, 1)

    def forward(self, images):
        features = [images]
        for stage in self.encoder:
            features.append(stage(features[-1]))
        made = self.middle(features.pop())
        for stage in self.decoder:
            made = torch.cat([stage(made), features.pop()], dim=1)
        return self.last(made).tanh()


def patch_discriminator(channels, width, norm):
    """Images (N, channels, H, W) -> logits (N, 1, H / 4 - 2, W / 4 - 2), each of a patch of 34 x 34 that
    it sees: what the whole shows, L1 or a cycle must tell (Isola et al. 2017, arXiv:1611.07004).

    norm: a class of layers such as nn.BatchNorm2d. The paper's patches are 70 x 70, of images of 256.
    """
    layers = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for before, after, stride in [(width, 2 * width, 2), (2 * width, 4 * width, 1)]:
        convolution = nn.Conv2d(before, after, 4, stride, 1, bias=False)
        layers += [convolution, norm(after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 4, 1, 1))


class Residual(nn.Module):
    """Features (N, width, H, W) plus what two convolutions make of them (He et al. 2016,
    arXiv:1512.03385), each followed by a norm, if there is one: a class such as nn.InstanceNorm2d."""

    def __init__(self, width, norm=None):
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, padding=1, bias=not norm) for _ in range(2))
        layers = [first, nn.PReLU(width), second]
        if norm:
            layers = [first, norm(width), nn.ReLU(), second, norm(width)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features):
        return features + self.layers(features)
