"""Nets that several applications are made of."""

from itertools import pairwise

import torch
from torch import nn


class UNet(nn.Module):
    """Images (N, channels_in, H, W) -> (N, channels_out, H, W) in [-1, 1] (Ronneberger et al. 2015,
    arXiv:1505.04597).

    Each stage of the encoder halves the sides and has one of the widths, each of the decoder doubles
    them again; it takes in what the one before it made and, by a skip, what the encoder had at this
    size, so that no detail has to go through the middle. middle: a net for what is smallest.
    """

    def __init__(self, channels_in, channels_out, widths, middle):
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
            layers = convolution, nn.BatchNorm2d(narrow), nn.ReLU()
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


class Residual(nn.Module):
    """Features (N, width, H, W) plus what two convolutions make of them (He et al. 2016,
    arXiv:1512.03385)."""

    def __init__(self, width):
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.layers = nn.Sequential(first, nn.PReLU(width), second)

    def forward(self, features):
        return features + self.layers(features)
