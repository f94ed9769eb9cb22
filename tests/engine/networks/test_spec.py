"""One description of a network goes whole into its builder, its state and its file."""

import json
import pickle
from dataclasses import asdict

import numpy as np
import pytest

from skltransfer import FineTunedClassifier
from skltransfer.engine import NetworkSpec, NetworkState


def test_a_header_gives_the_spec_that_was_written():
    spec = NetworkSpec(3, "max", "mlp", "lora", True, 5, 2, (2, 4))
    header = json.loads(json.dumps({"network": asdict(spec)}))
    assert NetworkSpec.from_header(header) == spec


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"network": [3, "max", 5, True], "adapter": "lora"}, NetworkSpec(3, "max", "mlp", "lora", n_outputs=5)),
        (
            {"network": [0, "cls", 1, False], "adapter": None, "sphere": True, "n_constants": 2},
            NetworkSpec(0, "cls", normalizes=True, n_constants=2),
        ),
    ],
)
def test_headers_of_earlier_versions_are_read(header, expected):
    assert NetworkSpec.from_header(header) == expected


def test_a_pickle_from_before_there_were_specs_opens(two_kinds):
    X, y = two_kinds
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, head="mlp", max_epochs=1, random_state=0).fit(X, y)
    expected, network = model.predict_proba(X), model._network_
    spec, old = network.spec, object.__new__(NetworkState)
    scalars = {"boundary": spec.boundary, "pooling": spec.pooling, "n_outputs": spec.n_outputs, "hidden": True}
    changed = {key.removeprefix("readout."): value for key, value in network.changed.items()}
    old.__dict__.update(scalars, changed=changed, adapter=None, sphere=False, n_constants=0)
    model._network_ = old
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), expected)


def test_outputs_are_no_part_of_the_architecture():
    assert NetworkSpec(3, "max", n_outputs=5).architecture == NetworkSpec(3, "max", n_constants=1).architecture
    assert NetworkSpec(3, "max").architecture != NetworkSpec(3, "max", adapter="lora").architecture


@pytest.mark.parametrize("options", [{"head": "mlp"}, {"pooling": "max"}, {"freeze_depth": 1.0}], ids=str)
def test_another_architecture_does_not_go_on(two_kinds, options):
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=1, warm_start=True).fit(*two_kinds)
    with pytest.raises(ValueError, match="warm_start and partial_fit go on with the same backbone"):
        model.set_params(**options).fit(*two_kinds)
