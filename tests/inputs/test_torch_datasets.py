"""Datasets of PyTorch and torchvision: what becomes X and y, and what is read when."""

import pickle
import time

import numpy as np
import pytest
import torch
from conftest import png
from PIL import Image
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import DatasetFolder, FakeData, ImageFolder
from torchvision.transforms import v2

from skltransfer import (
    FineTunedClassifier,
    FineTunedDetector,
    PretrainedFeatureExtractor,
    from_torch_dataset,
    load,
    load_image_folder,
)
from skltransfer.exceptions import BadSampleError


class Pairs(Dataset):
    """Pictures and labels that counts how often it is read."""

    def __init__(self, pictures, labels, **attributes):
        self.pictures, self.own, self.n_reads = pictures, labels, 0
        vars(self).update(attributes)

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, i):
        self.n_reads += 1
        return Image.fromarray(self.pictures[i]), self.own[i]


class Pictures(Pairs):
    def __getitem__(self, i):
        return super().__getitem__(i)[0]


class Endless(IterableDataset):
    def __iter__(self):
        return iter([(np.zeros((8, 8)), 0)])


@pytest.fixture
def folder(photos, tmp_path):
    for i, photo in enumerate(photos):
        (tmp_path / "photos" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / "ab"[i % 2] / f"{i:02d}.png").write_bytes(png(photo))
    return tmp_path / "photos"


def features(X):
    return PretrainedFeatureExtractor("toy:images", dtype="float32", cache=None).transform(X)


def model(**parameters):
    return FineTunedClassifier(
        "toy:images", **{"freeze_depth": 1.0, "dtype": "float32", "random_state": 0} | parameters
    )


def test_an_image_folder_is_its_paths_and_class_names(folder, monkeypatch):
    monkeypatch.setattr(Image, "open", None)  # whoever opens an image fails
    for found, expected in zip(from_torch_dataset(ImageFolder(folder)), load_image_folder(folder), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_parts_and_chains_of_datasets_are_those_samples(folder):
    whole = ImageFolder(folder)
    X, y = from_torch_dataset(whole)
    order = [5, 0, 3, 3]
    for found, expected in zip(from_torch_dataset(Subset(whole, order)), (X[order], y[order]), strict=True):
        np.testing.assert_array_equal(found, expected)
    chain = ConcatDataset([Subset(whole, order), whole])
    inner = Subset(Subset(chain, range(2, 8)), torch.tensor([5, 0]))
    np.testing.assert_array_equal(from_torch_dataset(inner)[0], [X[3], X[3]])
    np.testing.assert_array_equal(from_torch_dataset(chain)[1], [*y[order], *y])


def test_samples_are_read_when_they_are_needed(photos):
    data = Pairs(photos, torch.arange(12) % 2, targets=torch.arange(12) % 2, classes=["no", "yes"])
    X, y = from_torch_dataset(data)
    assert y.tolist() == ["no", "yes"] * 6
    assert data.n_reads <= 4  # of which three compare labels
    parts = train_test_split(X, y, random_state=0)
    pickle.dumps(X)
    assert data.n_reads <= 4
    np.testing.assert_array_equal(features(parts[0]), features([x.read() for x in parts[0]]))
    assert cross_val_score(model(), X, y, cv=3, error_score="raise").shape == (3,)


def test_a_dataset_is_asked_by_one_thread_at_a_time(photos):
    class Alone(Pairs):
        is_asked = False

        def __getitem__(self, i):
            assert not self.is_asked
            self.is_asked = True
            time.sleep(0.002)
            self.is_asked = False
            return super().__getitem__(i)

    n_threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert features(from_torch_dataset(Alone(photos, [0] * 12, targets=[0] * 12))[0]).shape == (12, 32)
    finally:
        torch.set_num_threads(n_threads)


def test_labels_that_a_dataset_does_not_keep_apart_are_read(photos):
    data = Pairs(photos, [f"kind {i % 3}" for i in range(12)])
    assert from_torch_dataset(data)[1].tolist() == data.own
    wrong = Pairs(photos, list(range(12)), targets=list(range(12))[::-1])
    assert from_torch_dataset(wrong)[1].tolist() == list(range(12))
    changed = Pairs(photos, list(range(0, 24, 2)), targets=range(12), target_transform=lambda label: 2 * label)
    assert from_torch_dataset(changed)[1].tolist() == list(range(0, 24, 2))
    assert from_torch_dataset(FakeData(4, (3, 8, 8), 3))[1].shape == (4,)


def test_rows_of_labels_and_boxes_are_kept_as_they_are(photos):
    rows = torch.tensor([[1, 0], [0, 1]] * 6)
    np.testing.assert_array_equal(from_torch_dataset(Pairs(photos, rows))[1], rows.numpy())
    boxes = [{"boxes": torch.tensor([[2.0, 2, 12, 12]]), "labels": torch.tensor([i % 2])} for i in range(12)]
    X, y = from_torch_dataset(Pairs(photos, boxes))
    assert y.dtype == object
    detector = FineTunedDetector("toy:images", max_epochs=1, input_size=None, random_state=0, dtype="float32")
    assert len(detector.fit(X, y).predict(X)) == 12


def test_tensors_are_samples_too(photos):
    X, y = from_torch_dataset(TensorDataset(torch.tensor(photos).permute(0, 3, 1, 2), torch.arange(12)))
    np.testing.assert_array_equal(features(X), features(photos))
    assert y.tolist() == list(range(12))


def test_another_loader_than_that_of_images_is_used(tmp_path, photos):
    for i in range(4):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        np.save(tmp_path / "ab"[i % 2] / f"{i}.npy", photos[i])
    X, y = from_torch_dataset(DatasetFolder(tmp_path, np.load, extensions=(".npy",)))
    np.testing.assert_array_equal(features(X), features(photos[[0, 2, 1, 3]]))
    assert y.tolist() == ["a", "a", "b", "b"]


def test_a_dataset_of_samples_alone_is_x(photos):
    data = Pictures(photos, [None] * 12)
    np.testing.assert_array_equal(features(data), features(photos))
    with pytest.raises(ValueError, match="item 0 of Pictures is Image object. Pass the dataset itself as X"):
        from_torch_dataset(data)


REFUSED = {
    "loader": (lambda d: DataLoader(d), r"a DataLoader, which serves batches.*from_torch_dataset\(loader.dataset\)"),
    "iterable": (lambda d: Endless(), r"an? Endless, which has no positions.*X, y = zip\(\*dataset\)"),
    "mapping": (lambda d: {1, 2}, "a set, which has no length or no positions"),
    "empty": (lambda d: Subset(d, []), "a Subset of length 0"),
    "transform": (
        lambda d: Subset(Pairs(d.pictures, d.own, transform=v2.RandomCrop(8)), [1]),
        r"but Pairs has RandomCrop\(.*Set dataset.transform = None: the backbone.*augment",
    ),
    "triples": (lambda d: TensorDataset(*[torch.zeros(2, 3, 8, 8)] * 3), "item 0 of TensorDataset is a tuple of 3"),
    "kinds of labels": (
        lambda d: ConcatDataset([d, Pairs(d.pictures, [0] * 12, classes=["a"])]),
        "the same kind of labels in all parts",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_dataset_of_pairs_is_refused_with_what_to_pass(kind, photos):
    make, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message):
        from_torch_dataset(make(Pairs(photos, list(range(12)))))


@pytest.mark.parametrize("kind", ["loader", "iterable"])
def test_estimators_refuse_them_too(kind, photos):
    make, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message):
        model().fit(make(Pairs(photos, list(range(12)))), [0] * 12)


def test_an_image_folder_with_a_transform_is_refused_until_it_has_none(folder):
    data = ImageFolder(folder, transform=v2.Compose([v2.ToImage()]))
    with pytest.raises(ValueError, match="Expected a dataset without a transform, but ImageFolder has Compose"):
        from_torch_dataset(data)
    data.transform = None
    assert len(from_torch_dataset(data)[0]) == 12


def test_a_sample_that_a_dataset_cannot_give_is_named_by_its_row(photos):
    class Broken(Pairs):
        def __getitem__(self, i):
            if i == 5:
                raise OSError("disk on fire")
            return super().__getitem__(i)

    X, _ = from_torch_dataset(Broken(photos, [0] * 12, targets=[0] * 12))
    with pytest.raises(BadSampleError, match=r"^X\[1\] \(item 5 of Broken\): the dataset raised OSError: disk on fire"):
        features(X[4:])
    found = PretrainedFeatureExtractor("toy:images", cache=None, on_bad_sample="nan").transform(X)
    assert np.isnan(found).all(axis=1).nonzero()[0].tolist() == [5]


def test_waveforms_and_texts_are_samples_too():
    waves = [(np.sin(np.arange(2000 + 100 * i) / (3 + i)).astype(np.float32), f"kind {i % 2}") for i in range(4)]
    X, y = from_torch_dataset(waves)
    extractor = PretrainedFeatureExtractor("toy:audio", sampling_rate=8000, dtype="float32", cache=None)
    np.testing.assert_array_equal(extractor.transform(X), extractor.transform([wave for wave, _ in waves]))
    assert from_torch_dataset([("good", 1), ("bad", 0)])[0].tolist() == ["good", "bad"]


def test_a_folder_and_a_lazy_dataset_are_searched_saved_and_loaded(folder, photos, tmp_path):
    lazy = Pairs(photos, [i % 2 for i in range(12)], classes=["a", "b"])
    for data in (ImageFolder(folder), lazy):
        X, y = from_torch_dataset(data)
        pipeline = make_pipeline(model(max_epochs=1))
        search = GridSearchCV(pipeline, {"finetunedclassifier__freeze_depth": [1.0, 0.5]}, cv=2, error_score="raise")
        found = search.fit(X, y).predict(X)
        search.best_estimator_[-1].save(tmp_path / "model")
        np.testing.assert_array_equal(load(tmp_path / "model").predict(X), found)
