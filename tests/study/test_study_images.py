"""What is trained on: generated images and shapes, and photographs where they are installed."""

import numpy as np
import pytest

from opbench.schema import OpbenchError
from opbench.study import images
from opbench.study.images import GENERATED, SIDE, missing_photographs, mosaic, pictures
from opbench.study.shapes import KINDS, shapes
from opbench.study.shapes import SIDE as SHAPE_SIDE


def test_a_generated_image_is_its_seeds_alone():
    one, again, other = (mosaic(np.random.default_rng(seed), 32) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.dtype == np.float32
    assert 0 <= one.min() < one.max() <= 1


def test_generated_images_have_detail_that_halving_loses():
    image = mosaic(np.random.default_rng(0), 64)
    halved = image.reshape(32, 2, 32, 2).mean((1, 3)).repeat(2, 0).repeat(2, 1)
    assert 20 < 10 * np.log10(1 / np.square(halved - image).mean()) < 40


def test_no_image_plays_two_roles():
    found = pictures("generated")
    every = [image.tobytes() for role in GENERATED for image in found.images[role]]
    assert len(set(every)) == len(every) == sum(GENERATED.values())
    assert all(image.shape == (SIDE, SIDE) for image in found.images["training"])


@pytest.mark.skipif(missing_photographs() is not None, reason=f"photographs: {missing_photographs()}")
def test_photographs_are_grey_halved_and_named():
    found = pictures("photographs")
    shapes = {role: image.shape for role, (image,) in found.images.items()}
    assert shapes == {"training": (540, 405), "validation": (300, 256), "held-out": (360, 640)}
    assert "zidane.jpg" in found.description
    assert all(0 <= image.min() < image.max() <= 1 for (image,) in found.images.values())


def test_without_photographs_auto_takes_generated_images_and_asking_for_them_is_refused(monkeypatch):
    monkeypatch.setattr(images, "_installed", lambda package, path: None)
    pictures.cache_clear()
    try:
        assert pictures("auto").source == "generated"
        with pytest.raises(OpbenchError, match=r"--images photographs: .*; install the extra"):
            pictures("photographs")
    finally:
        pictures.cache_clear()


def test_a_box_holds_its_shape_and_nothing_less():
    """Shape and background differ in their means: outside of the box nothing of the shape is left."""
    pixels, kinds, boxes = shapes(np.random.default_rng(0), 40)
    assert pixels.shape == (40, 1, SHAPE_SIDE, SHAPE_SIDE)
    assert set(kinds) <= set(range(len(KINDS)))
    assert (boxes[:, 2:] - boxes[:, :2] >= 4).all()
    assert (boxes >= 0).all()
    assert (boxes <= SHAPE_SIDE).all()
    contrasts = []
    for image, (x0, y0, x1, y1) in zip(pixels[:, 0], boxes.astype(int), strict=True):
        inside = np.zeros(image.shape, dtype=bool)
        inside[y0:y1, x0:x1] = True
        contrasts.append(abs(image[inside].mean() - image[~inside].mean()))
    assert np.median(contrasts) > 0.1
