"""A moving average of a net's weights, which draws better than the net at any moment of its training."""

from copy import deepcopy

import torch


class WeightAverage:
    """A second net whose weights follow those of the first (Yazici et al. 2019, arXiv:1806.04498).

    net: what is averaged. decay: how much of the average stays in each iteration; in the beginning
    less does, so that the first weights are forgotten, however short the run.
    `net` of the average has BatchNorm statistics of its own, which count_statistics gives it.
    """

    def __init__(self, net, decay):
        self.net, self.decay = deepcopy(net), decay
        device = next(net.parameters()).device
        self.share = torch.zeros((), device=device)  # a tensor: a captured step sees it change

    def set_share(self, step):
        """Before iteration `step` (from 0 on): how much of the newest weights it takes over."""
        self.share.fill_(max(1 - self.decay, 9 / (10 + step)))

    @torch.no_grad()
    def update(self, net):
        """After an iteration: take over a share of the net's weights."""
        for mean, weight in zip(self.net.parameters(), net.parameters()):
            mean.lerp_(weight, self.share)

    @torch.no_grad()
    def count_statistics(self, inputs):
        """Count BatchNorm's statistics anew, over all of these batches: no step has run these weights."""
        for layer in self.net.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None  # all batches count the same
        self.net.train()
        for batch in inputs:
            self.net(batch)
