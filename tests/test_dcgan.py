import pytest
import torch

from dcgan import Discriminator, Generator, channel_factors

SIDES = {32: [4, 2, 1], 64: [8, 4, 2, 1], 128: [8, 8, 4, 2, 1], 256: [8, 8, 8, 4, 2, 1]}


@pytest.mark.parametrize(
    ("net", "convolutions", "norms"),
    [
        (
            Generator(),
            {
                "main.0.weight": (100, 1024, 4, 4),
                "main.3.weight": (1024, 512, 4, 4),
                "main.6.weight": (512, 256, 4, 4),
                "main.9.weight": (256, 128, 4, 4),
                "main.12.weight": (128, 3, 4, 4),
            },
            {"main.1", "main.4", "main.7", "main.10"},
        ),
        (
            Discriminator(),
            {
                "main.0.weight": (128, 3, 4, 4),
                "main.2.weight": (256, 128, 4, 4),
                "main.5.weight": (512, 256, 4, 4),
                "main.8.weight": (1024, 512, 4, 4),
                "main.11.weight": (1, 1024, 4, 4),
            },
            {"main.3", "main.6", "main.9"},
        ),
    ],
    ids=["Generator", "Discriminator"],
)
def test_state_dicts_have_the_chapters_keys_and_shapes(net, convolutions, norms):
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert {key: shape for key, shape in shapes.items() if len(shape) == 4} == convolutions
    assert {key.rpartition(".")[0] for key in shapes.keys() - convolutions.keys()} == norms


@pytest.mark.parametrize("nc", [1, 3])
@pytest.mark.parametrize("image_size", SIDES)
def test_images_of_every_size_and_colour_go_through_both_nets(image_size, nc):
    assert channel_factors(image_size) == SIDES[image_size]
    image = Generator(5, 2, nc, image_size)(torch.randn(2, 5, 1, 1))
    assert image.shape == (2, nc, image_size, image_size)
    assert image.abs().max() <= 1
    discriminator = Discriminator(nc, 2, image_size).eval()
    probability = discriminator(image)
    assert probability.shape == (2, 1, 1, 1)
    assert torch.equal(probability, discriminator(image, logits=True).sigmoid())


def test_an_unsupported_size_is_refused():
    for size in (0, 48, 512):
        with pytest.raises(ValueError, match=f"image_size is {size}"):
            Generator(image_size=size)


def test_logits_stay_finite_where_the_sigmoid_saturates():
    discriminator = Discriminator(ndf=2)
    with torch.no_grad():
        discriminator.main[-2].weight.fill_(100)
    image = torch.rand(2, 3, 64, 64)
    assert discriminator(image).max() == 1
    assert discriminator(image, logits=True).max() > 100


@pytest.mark.parametrize("net", [Generator(ngf=16), Discriminator(ndf=16)])
def test_initialize_weights_draws_from_the_given_distributions(net):
    net.initialize_weights(w_mean=0.1, w_std=0.05, b_mean=2, b_std=0.3)
    convolutions = torch.cat([p.detach().flatten() for p in net.parameters() if p.ndim == 4])
    assert convolutions.mean() == pytest.approx(0.1, abs=0.001)
    assert convolutions.std() == pytest.approx(0.05, abs=0.001)
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    weights = torch.cat([norm.weight.detach() for norm in norms])
    assert weights.mean() == pytest.approx(2, abs=0.1)
    assert weights.std() == pytest.approx(0.3, abs=0.1)
    assert all((norm.bias == 0).all() for norm in norms)


@pytest.mark.parametrize("image_size", SIDES)
def test_a_generator_is_built_from_its_state_dict_alone(image_size):
    saved = Generator(7, 4, 1, image_size).eval()
    noise = torch.randn(2, 7, 1, 1)
    built = Generator.from_state_dict(saved.state_dict()).eval()
    assert torch.equal(built(noise), saved(noise))
    halves = {name: value.half() for name, value in saved.state_dict().items()}
    assert Generator.from_state_dict(halves)(noise).dtype == torch.float32


def test_a_state_dict_of_another_net_is_refused():
    state_dict = Generator(ngf=4).state_dict()
    del state_dict["main.4.bias"]
    for other in (state_dict, Discriminator(ndf=4).state_dict(), {"a": torch.zeros(2)}):
        with pytest.raises(ValueError):
            Generator.from_state_dict(other)
