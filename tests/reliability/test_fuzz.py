"""Inputs by chance: none raises anything but what is documented, and none takes for ever.

``make test`` tries a few hundred; ``SKLTRANSFER_FUZZ=50000``, which ``make fuzz`` sets, tries that many in all.
"""

import contextlib
import json
import os
import warnings

import numpy as np
import pytest
from catalogue import classifier, features, regressor
from fuzzing import ANSWERS, PATHS, PLAIN, SAMPLES, arrays_of_any_kind, read, read_collection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from skltransfer import load, load_backbone
from skltransfer.backbones import freeze_boundary
from skltransfer.exceptions import SkltransferError

ASKED = int(os.environ.get("SKLTRANSFER_FUZZ", "0"))
STAGES = ("stem", "block1", "block2", "block3")
SHARES = {"image": 0.2, "audio": 0.16, "text": 0.14, "collection": 0.14, "table": 0.06, "labels": 0.02, "weights": 0.02}
SHARES |= {"freeze_depth": 0.16, "backbone": 0.01, "saved": 0.03, "bytes of weights": 0.06}


def tries(what: str, few: int = 40):
    """A share of what was asked for; a few where nothing was."""
    return settings(
        max_examples=round(SHARES[what] * ASKED) or few,
        deadline=None if not ASKED else 10_000,  # milliseconds; a loaded machine must not fail a short run
        derandomize=not ASKED,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def test_the_shares_make_a_whole():
    assert sum(SHARES.values()) == pytest.approx(1.0)


@tries("image", 120)
@given(SAMPLES["image"])
def test_a_picture_by_chance(item):
    read(item, "image")


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@tries("audio", 120)
@given(SAMPLES["audio"])
def test_a_sound_by_chance(item):
    read(item, "audio")


@tries("text")
@given(SAMPLES["text"])
def test_a_text_by_chance(item):
    read(item, "text")


@tries("collection")
@given(st.one_of(PLAIN, PATHS, arrays_of_any_kind(3), st.lists(PLAIN, max_size=3)), st.sampled_from(sorted(SAMPLES)))
def test_a_collection_by_chance(X, modality):
    read_collection(X, modality)


@tries("table")
@given(st.one_of(arrays_of_any_kind(), st.lists(st.one_of(PLAIN, st.lists(PLAIN, max_size=3)), max_size=3)))
def test_a_table_by_chance(X):
    with contextlib.suppress(*ANSWERS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = features(X, "toy:rows")
        assert np.isfinite(found).all() or not np.isfinite(np.asarray(X, dtype=np.float32)).all()


@tries("labels", 15)
@given(
    st.one_of(
        st.lists(PLAIN, min_size=6, max_size=6),
        arrays_of_any_kind(),
        st.lists(st.sampled_from(["a", "b", 1, -100, 2.5, None]), min_size=6, max_size=6),
    ),
    st.booleans(),
)
def test_targets_by_chance(y, classifies):
    X = np.arange(24, dtype=np.float32).reshape(6, 4)
    with contextlib.suppress(*ANSWERS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (classifier(freeze_depth=1.0) if classifies else regressor()).fit(X, y).predict(X)


@tries("weights", 15)
@given(st.one_of(st.lists(PLAIN, min_size=6, max_size=6), st.lists(st.floats(), min_size=6, max_size=6), PLAIN))
def test_weights_by_chance(weights):
    X = np.arange(24, dtype=np.float32).reshape(6, 4)
    with contextlib.suppress(*ANSWERS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = classifier(freeze_depth=1.0).fit(X, [0, 1] * 3, sample_weight=weights)
        assert np.isfinite(model.predict_proba(X)).all()


@tries("freeze_depth", 100)
@given(st.one_of(PLAIN, st.sampled_from(STAGES), st.floats(-5, 2), st.integers(-5, 2), arrays_of_any_kind(1)))
def test_a_freeze_depth_by_chance(value):
    with contextlib.suppress(ValueError):
        boundary = freeze_boundary(value, STAGES)
        assert isinstance(boundary, int)
        assert 0 <= boundary <= len(STAGES)


@tries("backbone", 20)
@given(
    st.one_of(
        PATHS,
        st.tuples(st.sampled_from(["bundled", "hf", "os", "timm", "torchvision", "toy", ""]), PATHS).map(":".join),
        PLAIN.filter(lambda value: not isinstance(value, str)),
    )
)
def test_the_name_of_a_backbone_by_chance(name):
    with contextlib.suppress(*ANSWERS):
        load_backbone(name, local_files_only=True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    X, y = np.random.default_rng(0).normal(size=(24, 4)), np.arange(24) % 2
    path = tmp_path_factory.mktemp("saved") / "model.skl"
    classifier().fit(X, y).save(path)
    return path, path.read_bytes(), load_file(path)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


def _places(value, trail=()):
    """Where a value of JSON could be replaced."""
    yield trail
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(inner, (*trail, key))


@tries("saved")
@given(st.data())
def test_a_saved_estimator_by_chance(saved, data):
    path, content, arrays = saved
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8:end])["__metadata__"]["skltransfer"])
    *trail, last = data.draw(st.sampled_from(sorted((t for t in _places(header) if t), key=str)))
    inside = header
    for key in trail:
        inside = inside[key]
    inside[last] = data.draw(st.one_of(JSON, st.integers(10**6, 10**12)))
    forged = path.with_name("forged.skl")
    save_file(arrays, forged, metadata={"skltransfer": json.dumps(header)})
    with contextlib.suppress(SkltransferError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(forged)


@tries("bytes of weights")
@given(st.data())
def test_bytes_of_weights_by_chance(saved, data):
    path, content, _ = saved
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 2000))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    forged = path.with_name("forged.skl")
    forged.write_bytes(content)
    for read_it in (load, lambda file: load_backbone("toy:rows", weights=file)):
        with contextlib.suppress(SkltransferError):
            read_it(forged)
