"""Each change must be random, the same kind for every image, and let gradients through."""

import pytest
import torch

from gan_demo import Config
from machinery.constants import check_ranges
from machinery.diffaugment import CHANGES, augment


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(200, 3, 32, 32) + 1  # nowhere 0, so that what is covered shows


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_random_and_gradients_pass_through_it(images, name):
    images.requires_grad_(True)
    changed = augment(images, name)
    assert changed.shape == images.shape
    assert ((changed - images).flatten(1).abs().amax(1) > 0).float().mean() > 0.8
    assert not torch.equal(augment(images, name), changed)
    changed.sum().backward()
    assert images.grad.abs().sum() > 0 and images.grad.isfinite().all()
    torch.manual_seed(1)
    first = augment(images, name)
    torch.manual_seed(1)
    assert torch.equal(augment(images, name), first)


@pytest.mark.parametrize(("name", "most"), [("translation", 4), ("shift", 1)])
def test_a_translation_moves_each_image_by_whole_pixels(images, name, most):
    found = set()
    padded = torch.nn.functional.pad(images, (most, most, most, most))
    for number, changed in enumerate(augment(images, name)):
        fits = [
            (top, left)
            for top in range(2 * most + 1)
            for left in range(2 * most + 1)
            if torch.equal(changed, padded[number, :, top : top + 32, left : left + 32])
        ]
        assert len(fits) == 1
        found.add(fits[0])
    assert {top for top, _ in found} == {left for _, left in found} == set(range(2 * most + 1))


def test_cutout_makes_a_square_of_half_the_side_gray(images):
    covered = augment(images, "cutout") == 0
    assert torch.equal(covered[:, 0], covered[:, 1]) and torch.equal(covered[:, 0], covered[:, 2])
    rows, columns = covered[:, 0].any(2).sum(1), covered[:, 0].any(1).sum(1)
    assert torch.equal(covered[:, 0].sum((1, 2)), rows * columns)  # a rectangle
    assert rows.max() == columns.max() == 16 and rows.min() >= 8 and columns.min() >= 8


def test_color_changes_brightness_saturation_and_contrast_alone(images):
    changed = augment(images, "color")
    means = changed.mean((1, 2, 3)) - images.mean((1, 2, 3))
    assert -0.501 < means.min() < -0.4 and 0.4 < means.max() < 0.501
    factors = (changed - changed.mean(1, keepdim=True)) / (images - images.mean(1, keepdim=True))
    factors = factors.flatten(1).median(dim=1).values
    torch.testing.assert_close(
        changed - changed.mean(1, keepdim=True),
        factors[:, None, None, None] * (images - images.mean(1, keepdim=True)),
        rtol=0,
        atol=1e-4,
    )
    assert factors.min() < 0.2 and 2 < factors.max() < 3
    gray = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    still_gray = augment(gray, "color")
    torch.testing.assert_close(still_gray, still_gray[:, :1].expand(-1, 3, -1, -1))


def test_names_add_up_and_none_changes_nothing(images):
    assert torch.equal(augment(images, ""), images)
    torch.manual_seed(3)
    both = augment(images, "shift,cutout")
    torch.manual_seed(3)
    assert torch.equal(both, CHANGES["cutout"](CHANGES["shift"](images)))


def test_blanks_beside_the_commas_do_not_count(images):
    check_ranges(Config(diffaugment="color, shift"))
    torch.manual_seed(1)
    first = augment(images, "color,shift")
    torch.manual_seed(1)
    assert torch.equal(augment(images, " color, shift "), first)
