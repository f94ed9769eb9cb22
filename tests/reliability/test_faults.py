"""The fault catalogue: 84 faults, each with the input that has it, the error or the result, and the words that help."""

import re
import warnings

import faults_of_models_and_disks
import faults_of_pictures
import faults_of_tables
import faults_of_texts_and_sounds
import numpy as np
import pytest
from catalogue import Bench

PARTS = (faults_of_pictures, faults_of_texts_and_sounds, faults_of_tables, faults_of_models_and_disks)
FAULTS = [fault for part in PARTS for fault in part.FAULTS]


@pytest.fixture
def bench(tmp_path, monkeypatch, rng):
    return Bench(tmp_path, monkeypatch, rng)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_ends_as_the_catalogue_says(fault, bench):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if fault.error is None:
            np.testing.assert_equal(*fault.use(bench))
            text = "\n".join(str(warning.message) for warning in told)
        else:
            with pytest.raises(fault.error) as caught:
                fault.use(bench)
            text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    for part in (fault.where, fault.says, fault.remedy):
        assert re.search(part, text), f"{text!r} does not say {part!r}"
    assert fault.error or fault.says or not text, f"an unexpected warning: {text}"


def test_no_fault_is_left_out():
    assert sorted({fault.row for fault in FAULTS}) == list(range(1, 85))
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS) > 140
