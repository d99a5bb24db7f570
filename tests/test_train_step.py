"""The training step against SPEC's chapter steps, written out again with nothing shared."""

import copy

import pytest
import torch

import gan_demo
from dcgan import Discriminator, Generator
from gan_demo import CHAPTER, Config, train_step


def chapter_iteration(real, noise, netG, netD, real_label, fake_label, lr, beta1, match=0):
    """Plain torch: probabilities, BCELoss, torch.autograd.grad, and Adam's first step by hand."""
    bce = torch.nn.BCELoss()

    def label(value):
        return torch.full((len(real),), value, dtype=real.dtype)

    def adam_first_step(net, loss):
        # With bias correction the first step of Adam is lr * g / (|g| + eps), whatever the betas.
        parameters = list(net.parameters())
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= lr * gradient / (gradient.abs() + 1e-8)
        return gradients

    fake = netG(noise)
    p_real, p_fake = netD(real).view(-1), netD(fake.detach()).view(-1)
    loss_d = bce(p_real, label(real_label)) + bce(p_fake, label(fake_label))
    gradients_d = adam_first_step(netD, loss_d)
    p_after = netD(fake).view(-1)
    loss_g = bce(p_after, label(real_label))
    total_g = loss_g
    for channel in range(3):
        of_fake, of_real = fake[:, channel].flatten(), real[:, channel].flatten()
        means = of_fake.mean() - of_real.mean()
        deviations = of_fake.var() ** 0.5 - of_real.var() ** 0.5
        total_g = total_g + match / 3 * (means**2 + deviations**2)
    adam_first_step(netG, total_g)
    return [loss_d, loss_g, p_real.mean(), p_fake.mean(), p_after.mean()], gradients_d


@pytest.mark.parametrize("match", [0.0, 10.0])
def test_one_iteration_is_the_chapters_in_float64(match):
    torch.manual_seed(0)
    generator = Generator(nz=10, ngf=8).double()
    discriminator = Discriminator(ndf=8).double()
    generator.initialize_weights()
    discriminator.initialize_weights()
    netG, netD = copy.deepcopy(generator), copy.deepcopy(discriminator)
    before = generator.main[0].weight.detach().clone()
    real = torch.rand(6, 3, 64, 64, dtype=torch.float64) * 2 - 1
    noise = torch.randn(6, 10, 1, 1, dtype=torch.float64)
    config = Config(**CHAPTER | {"real_label": 0.9, "fake_label": 0.1, "lr": 0.01})
    config.match_contrast = match

    expected, gradients_d = chapter_iteration(
        real, noise, netG, netD, 0.9, 0.1, config.lr, config.beta1, match
    )
    betas = (config.beta1, 0.999)
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=config.lr, betas=betas)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=config.lr, betas=betas)
    numbers = train_step(real, noise, generator, discriminator, optimizer_g, optimizer_d, config)

    torch.testing.assert_close(numbers, torch.stack(expected).detach(), rtol=0, atol=1e-9)
    for ours, theirs in [(generator, netG), (discriminator, netD)]:
        for (key, value), other in zip(
            ours.state_dict().items(), theirs.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(value, other, rtol=0, atol=1e-9, msg=key)
    for parameter, gradient in zip(discriminator.parameters(), gradients_d, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)  # the step of G left them alone
    assert (generator.main[0].weight - before).abs().max() > 0.001


def test_both_real_and_fake_images_are_changed_before_D_sees_them(monkeypatch):
    policies = []

    def all_gray(images, policy):
        policies.append(policy)
        return 0 * images

    monkeypatch.setattr(gan_demo, "augment", all_gray)
    torch.manual_seed(0)
    nets = Generator(nz=10, ngf=8), Discriminator(ndf=8)
    before = nets[0].main[0].weight.detach().clone()
    optimizers = [torch.optim.Adam(net.parameters(), lr=0.01) for net in nets]
    real, noise = torch.rand(6, 3, 64, 64), torch.randn(6, 10, 1, 1)
    config = Config(diffaugment="color,shift", match_contrast=0.0)
    numbers = train_step(real, noise, *nets, *optimizers, config)
    assert set(policies) == {"color,shift"}
    assert numbers[2] == numbers[3]  # D sees the same of both
    assert torch.equal(nets[0].main[0].weight, before)  # and nothing that G could learn from
