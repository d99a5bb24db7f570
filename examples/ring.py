"""A GAN of your own on the same Run: two small nets learn a ring of eight Gaussians.

python -m examples.ring                    # less than a minute on a CPU; see log_gan/ring/run1
python -m examples.ring --resume latest    # go on with an interrupted run
python -m examples.ring --help             # every constant below is also a flag

The toy of Metz et al. 2017 (arXiv:1611.02163): a generator that collapses draws one or two of the eight.
All that a run has (going on, signals, curves, several processes) comes from machinery/run.py.
"""

import sys
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import nn

if __name__ == "__main__" and not __spec__:  # started as a file, not by -m
    sys.path.append(f"{sys.path[0]}/..")
from common_tools import choose_device, run_as_script, set_seed
from machinery.acceleration import fused_adam
from machinery.constants import Count, Free, Place, Rate, RunConfig, check_config, train_as_told
from machinery.pictures import picture_of
from machinery.processes import average_gradients, get_world_size
from machinery.run import Run

ANGLES = torch.arange(8) * torch.pi / 4
CENTRES, SPREAD = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1), 0.02
METRICS = {"loss_d": "Loss_D", "loss_g": "Loss_G", "d_x": "D(x)", "d_gz": "D(G(z))"}


@dataclass
class Config(RunConfig):
    """Learn a ring of eight Gaussians. Every constant can be edited in examples/ring.py."""

    num_epochs: Free[Count] = 50  # each gives a picture
    points: Count = 25_600  # of an epoch
    batch_size: Count = 256  # points in one iteration (of each process, under torchrun)
    nz: Count = 8  # length of the latent vector
    width: Count = 128  # of both nets
    lr: Rate = 0.001  # learning rate of both Adam optimizers
    out_dir: Free[Place] = "log_gan/ring"  # each run gets a folder of its own in here


class Ring:
    """Batches of points (batch_size, 2), always new ones."""

    unit, source, fingerprint = "points", "a ring of eight Gaussians", 0

    def __init__(self, config, device):
        self.batch_size, self.device = config.batch_size, device
        self.count, self.total = config.points, config.batch_size * get_world_size()

    def epoch(self, _, seen):
        for _ in range(seen, self.count - self.total + 1, self.total):
            points = CENTRES[torch.randint(8, [self.batch_size])]
            yield torch.normal(points, SPREAD).to(self.device)


def mlp(n_in, width, n_out):
    first, second = nn.Linear(n_in, width), nn.Linear(width, width)
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(width, n_out))


def train_step(real, noise, generator, discriminator, optimizer_g, optimizer_d):
    """D learns from -log D(x) - log(1 - D(G(z))), then G from -log D(G(z)); D gives logits."""
    fake = generator(noise)
    logits_real, logits_fake = discriminator(real), discriminator(fake.detach())
    loss_d = F.softplus(-logits_real).mean() + F.softplus(logits_fake).mean()
    descend(loss_d, discriminator, optimizer_d)
    loss_g = F.softplus(-discriminator(fake)).mean()
    descend(loss_g, generator, optimizer_g)
    d_x, d_gz = logits_real.sigmoid().mean(), logits_fake.sigmoid().mean()
    return torch.stack([loss_d, loss_g, d_x, d_gz]).detach()


def descend(loss, net, optimizer):
    optimizer.zero_grad()
    loss.backward()
    average_gradients(net)  # over the processes, if there are several
    optimizer.step()


def train(config: Config):
    """Train as config says, or go on with the run config.resume. Returns the run's folder."""
    check_config(config)
    device = choose_device(config.device)
    set_seed(config.seed)
    nets = mlp(config.nz, config.width, 2).to(device), mlp(2, config.width, 1).to(device)
    optimizers = [fused_adam(net, config.lr, beta1=0.5) for net in nets]
    fixed_noise = torch.randn(1000, config.nz).to(device)
    parts = dict(zip(["g_model", "d_model", "g_optimizer", "d_optimizer"], [*nets, *optimizers]))
    with Run(config, parts, METRICS, Ring(config, device)) as run:
        for _ in run.epochs():
            for real in run.batches():
                noise = torch.randn(config.batch_size, config.nz, device=device)
                run.count(train_step(real, noise, *nets, *optimizers))
            run.end_epoch(lambda: scatter(nets[0](fixed_noise).detach().cpu()))
    print(f"Done. {modes(nets[0](fixed_noise).detach().cpu())} of the 8 Gaussians are drawn.")
    return run.folder


def scatter(points):
    """A picture of points (N, 2) over the eight Gaussians."""
    figure = Figure(figsize=(4, 4))
    axes = figure.add_axes([0, 0, 1, 1], xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[])
    axes.scatter(*CENTRES.T, s=400, color="lightgray")
    axes.scatter(*points.T, s=2)
    return picture_of(figure)


def modes(points):
    """How many of the eight have at least one in a hundred of the points (N, 2) close to them."""
    distances, nearest = torch.cdist(points, CENTRES).min(dim=1)
    close = nearest[distances < 10 * SPREAD]
    return int((close.bincount(minlength=8) >= len(points) / 100).sum())


if __name__ == "__main__":
    run_as_script(lambda: train_as_told(train, Config))
