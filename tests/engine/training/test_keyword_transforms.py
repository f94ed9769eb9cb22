"""Augmentation by albumentations: of images, masks and boxes."""

import collections
import random

import albumentations as A
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torchvision.transforms.v2 import functional

from skltransfer import FineTunedClassifier, FineTunedDetector, FineTunedRegressor, FineTunedSegmenter, load
from skltransfer.engine.training.keyword_transforms import KeywordTransform

OPTIONS = {"dtype": "float32", "random_state": 0, "max_epochs": 2}
RANDOM = [A.HorizontalFlip(), A.Affine(p=1.0), A.GaussNoise(), A.CoarseDropout()]
WITH_BOXES = A.BboxParams("pascal_voc", label_fields=["labels"])


def classifier(augment, **parameters):
    return FineTunedClassifier("toy:images", augment=augment, freeze_depth=0.5, **OPTIONS | parameters)


def mirrored(image, target=None):
    """A flip by torchvision that draws as many random numbers as one by albumentations."""
    torch.randint(2**31 - 1, ())
    if target is None:
        return functional.horizontal_flip(image)
    moved = {key: functional.horizontal_flip(value) for key, value in target.items() if key != "labels"}
    return functional.horizontal_flip(image), target | moved


@pytest.fixture
def sided(rng):
    """Grey images that are bright on the left or on the right."""
    X, y = rng.random((12, 16, 16)) * 0.5, np.arange(12) % 2
    X[y == 0, :, :8] += 0.5
    X[y == 1, :, 8:] += 0.5
    return X, y


def test_a_flip_of_either_library_is_the_same(sided):
    X, y = sided
    flips = A.Compose([A.HorizontalFlip(p=1.0)]), mirrored
    for kind in (FineTunedClassifier, FineTunedRegressor):
        found = [kind("toy:images", augment=flip, freeze_depth=0.5, **OPTIONS).fit(X, y).predict(X) for flip in flips]
        np.testing.assert_array_equal(*found)
    assert classifier(flips[0], max_epochs=20, learning_rate=0.01).fit(X, y).score(X, y) < 0.5


def test_only_random_state_decides_and_the_transform_of_the_user_stays_as_it_is(sided, rng):
    X, y = sided
    augment, order = A.Compose(RANDOM, seed=3), rng.permutation(len(X))
    drawn = augment.py_random.getstate()
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    model = classifier(augment)
    expected = model.fit(X, y).predict_proba(X)
    assert augment.py_random.getstate() == drawn
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    random.seed(1)
    np.random.seed(1)
    np.testing.assert_array_equal(classifier(A.Compose(RANDOM)).fit(X[order], y[order]).predict_proba(X), expected)
    np.testing.assert_array_equal(clone(model).fit(X, y).predict_proba(X), expected)
    assert not np.array_equal(classifier(augment, random_state=1).fit(X, y).predict_proba(X), expected)


def test_each_part_of_a_composition_draws_its_own_numbers():
    corner = torch.zeros(3, 8, 8, dtype=torch.uint8)
    corner[:, 0, 0] = 9
    flips = KeywordTransform(A.Compose([A.HorizontalFlip(), A.VerticalFlip()]))
    torch.manual_seed(0)
    counts = collections.Counter(tuple(flips(corner)[0].nonzero()[0].tolist()) for _ in range(100))
    assert len(counts) == 4
    assert min(counts.values()) > 10


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (A.Compose([A.Normalize()]), r"must turn a uint8 tensor .* got torch.float32 .*Leave out ToDtype, ToFloat and"),
        (A.Compose([A.ToFloat()]), r"must turn a uint8 tensor .* got torch.float32"),
        (A.HorizontalFlip(), r"has a get_params of its own.*Wrap it: albumentations.Compose\(\[...\]\)"),
        (A.Compose([], bbox_params=WITH_BOXES), "has bbox_params or keypoint_params, but y holds no boxes. Leave them"),
    ],
)
def test_what_is_no_change_of_an_image_is_refused(sided, augment, message):
    with pytest.raises(ValueError, match=message):
        classifier(augment).fit(*sided)


def test_a_version_without_seeds_is_refused(sided):
    class Old:
        available_keys = ("image",)

        def __call__(self, image):
            return {"image": image}

    with pytest.raises(ValueError, match=r"cannot be seeded.*Install albumentations>=2.0"):
        classifier(Old()).fit(*sided)


def test_a_tensor_at_the_end_is_taken(sided):
    X, y = sided
    found = [classifier(A.Compose([A.HorizontalFlip(p=1.0), *end])).fit(X, y) for end in ([], [A.ToTensorV2()])]
    np.testing.assert_array_equal(*(model.predict_proba(X) for model in found))


def scenes(n=6):
    """Images with a bright square, their masks and their boxes."""
    rng, X, masks, boxes = np.random.default_rng(0), [], [], []
    for i in range(n):
        image, mask = rng.integers(0, 40, (32, 40, 3), dtype=np.uint8), np.zeros((32, 40), int)
        left = 2 + 4 * i
        image[4:18, left : left + 14], mask[4:18, left : left + 14] = 250, 3
        X.append(image)
        masks.append(mask)
        boxes.append({"boxes": [[left, 4, left + 14, 18]], "labels": ["square"]})
    return X, masks, boxes


def test_masks_move_with_their_images():
    X, masks, _ = scenes()
    flips = A.Compose([A.HorizontalFlip(p=1.0)]), mirrored
    found = [FineTunedSegmenter("toy:images", augment=flip, **OPTIONS).fit(X, masks).predict(X) for flip in flips]
    np.testing.assert_array_equal(*map(np.stack, found))
    mixed = A.Compose([A.Affine(translate_px=5, fill_mask=77, p=1.0)])
    with pytest.raises(ValueError, match="mixes labels or fills in others; leave mask_interpolation and fill_mask at"):
        FineTunedSegmenter("toy:images", augment=mixed, **OPTIONS).fit(X, masks)


def test_masks_of_many_transforms_hold_their_own_labels():
    image, mask = torch.randint(0, 255, (3, 20, 24), dtype=torch.uint8), torch.randint(1, 5, (20, 24))
    changes = [A.ElasticTransform, A.GridDistortion, A.Perspective, A.D4, A.Affine, A.SafeRotate, A.RandomScale]
    for change in changes:
        _, found = KeywordTransform(A.Compose([change(p=1.0)]))(image, {"mask": mask})
        assert set(found["mask"].unique().tolist()) <= {0, 1, 2, 3, 4}


def test_boxes_move_with_their_images():
    X, _, boxes = scenes()
    flips = A.Compose([A.HorizontalFlip(p=1.0)], bbox_params=WITH_BOXES), mirrored
    fitted = [FineTunedDetector("toy:images", input_size=None, augment=flip, **OPTIONS).fit(X, boxes) for flip in flips]
    for one, other in zip(*(model.predict(X) for model in fitted), strict=True):
        np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-5)
    named = A.Compose([A.RandomCrop(16, 16)], bbox_params=A.BboxParams("pascal_voc", label_fields=["kinds"]))
    assert FineTunedDetector("toy:images", input_size=None, augment=named, **OPTIONS).fit(X, boxes).n_iter_ == 2


@pytest.mark.parametrize("params", [None, A.BboxParams("coco", label_fields=["labels"]), A.BboxParams("pascal_voc")])
def test_boxes_that_are_not_declared_are_refused(params):
    X, _, boxes = scenes(2)
    with pytest.raises(ValueError, match=r"boxes need Compose.*bbox_params=BboxParams\('pascal_voc', label_fields="):
        FineTunedDetector("toy:images", augment=A.Compose([], bbox_params=params), input_size=None).fit(X, boxes)


def test_a_search_over_augmentations_is_saved_and_loaded(sided, tmp_path):
    X, y = sided
    model = make_pipeline(classifier(None))
    grid = {"finetunedclassifier__augment": [None, A.Compose(RANDOM)]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    best = model.set_params(finetunedclassifier__augment=A.Compose(RANDOM)).fit(X, y)
    best[-1].save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(X), best.predict(X))
    assert len(search.cv_results_["params"]) == 2


@pytest.mark.slow
def test_processes_draw_the_same_numbers(sided):
    X, y = sided
    grid = {"augment": [A.Compose(RANDOM)], "freeze_depth": [0.5, 1.0]}
    alone, together = (
        GridSearchCV(classifier(None), grid, cv=2, n_jobs=n, scoring="neg_log_loss").fit(X, y) for n in (1, 2)
    )
    np.testing.assert_allclose(alone.cv_results_["mean_test_score"], together.cv_results_["mean_test_score"], rtol=1e-6)
