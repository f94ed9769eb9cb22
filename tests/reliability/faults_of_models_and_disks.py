"""Rows 70 to 84 of the catalogue: hyper-parameters, weights, interrupts, disks, versions."""

import errno
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from catalogue import Bench, Fault, classifier, features
from stores import forget

from skltransfer import (
    ActivationStore,
    ELMClassifier,
    FeatureAdaptedClassifier,
    load,
    load_backbone,
)
from skltransfer._estimators.version_stamp import KEY
from skltransfer.engine.training import loop
from skltransfer.exceptions import (
    BackboneNotFoundError,
    MissingDependencyError,
    TrainingDivergedError,
    WeightsError,
)

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
SLOWER = "The activation store in .* is not used: .*Results are the same, but slower"
TRAINED = {"freeze_depth": 0.0, "batch_size": 4, "max_epochs": 4}
ALONE = """
import sys, numpy as np
from skltransfer import FineTunedClassifier, PretrainedFeatureExtractor
place, code = sys.argv[1:]
X, y = np.load(f"{place}/X.npy"), np.arange(24) % 2
exec(code)
"""
KILLED = f"""
from skltransfer.engine.training import loop
from skltransfer.engine.training.checkpoint import Checkpoint
import os, signal
write, written = Checkpoint.write, []
def and_die(self, state):
    write(self, state)
    written.append(1)
    if len(written) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoint.write = and_die
model = FineTunedClassifier("toy:rows", checkpoint=place, random_state=0, dtype="float32", **{TRAINED!r})
model.fit(X, y)
"""


def _fit(**parameters):
    return lambda bench: classifier(**parameters).fit(*bench.table())


def _alone(bench: Bench, code: str) -> subprocess.Popen:
    """Another process, with the bench's table as X."""
    np.save(bench.place / "X.npy", bench.table()[0])
    command = [sys.executable, "-c", ALONE, str(bench.place), code]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})


def _without_network(bench: Bench):
    bench.patch.setattr(torch.hub, "get_dir", lambda: str(bench.place))
    return load_backbone("torchvision:resnet34")


def _damaged_weights(change):
    def use(bench: Bench):
        state = load_backbone("toy:rows", weights="random:5").library_network.state_dict()
        torch.save({k: v for k, v in state.items() if change != k}, bench.place / "w.pt")
        content = (bench.place / "w.pt").read_bytes()
        if change == "half":
            (bench.place / "w.pt").write_bytes(content[: len(content) // 2])
        return load_backbone("toy:rows", weights=bench.place / "w.pt")

    return use


def _without_timm(bench: Bench):
    bench.patch.setitem(sys.modules, "timm", None)
    return load_backbone("timm:resnet18", max_pixels=9999)


def _old_model_stays(error: type[BaseException], break_it):
    """An error in a second fit, with other labels: what the first one fitted is as it was."""

    def use(bench: Bench):
        X, y = bench.table()
        model = classifier(**TRAINED).fit(X, y)
        before = pickle.dumps(model.predict_proba(X))
        with bench.patch.context() as patch:
            break_it(patch, model)
            with pytest.raises(error) as caught:
                model.fit(X[::-1], np.array(["a", "b"])[y])
        assert pickle.dumps(model.predict_proba(X)) == before
        assert model.classes_.tolist() == [0, 1]
        raise caught.value

    return use


def _raising(error: BaseException, place: object, name: str, call: int):
    """Make a function raise at its n-th call."""
    calls, true = [], getattr(place, name)

    def raising(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            raise error
        return true(*arguments, **options)

    def break_it(patch, model):
        patch.setattr(place, name, raising)

    return break_it


def _resumed(bench: Bench) -> tuple[list, list]:
    assert _alone(bench, KILLED).wait(timeout=120) == -signal.SIGKILL
    X, y = np.load(bench.place / "X.npy"), np.arange(24) % 2
    whole, steps = classifier(**TRAINED).fit(X, y), []
    true = loop._Run._take_step
    bench.patch.setattr(loop._Run, "_take_step", lambda *a: steps.append(1) or true(*a))
    resumed = classifier(**TRAINED, checkpoint=bench.place).fit(X, y)
    return [resumed.predict_proba(X), resumed.history_, len(steps)], [whole.predict_proba(X), whole.history_, 12]


def _failing_disk(number: int):
    """Right results, one warning, no half-written file."""

    def use(bench: Bench) -> tuple[list, list]:
        def fails(*_):
            raise OSError(number, os.strerror(number))

        X = bench.table()[0]
        bench.patch.setattr(os, "fsync", fails)
        store = ActivationStore(bench.place / "store")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = [features(X, "toy:rows", cache=store) for _ in range(2)]
        warnings.warn_explicit(told[0].message, UserWarning, "", 1)
        left = [p.name for p in bench.place.rglob("*") if p.suffix in (".part", ".safetensors")]
        return [*found, len(told), left], [features(X, "toy:rows")] * 2 + [1, []]

    return use


def _flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)


def _damaged_store(damage, *, in_use: bool = False):
    """What a folder holds is damaged, before it is opened or while it is open: features are still right."""

    def use(bench: Bench) -> tuple[list, list]:
        X, folder = bench.table()[0], bench.place / "store"
        store = ActivationStore(folder)
        for _ in range(2):  # the second time, what is there is looked up in the folder
            features(X, "toy:rows", cache=store)
            features(X, "toy:images", cache=store)
            forget(store)
        files = sorted(folder.rglob("*.safetensors"))
        damage(files)
        store = store if in_use else ActivationStore(folder, max_bytes=10**8)
        return [len(files), features(X, "toy:rows", cache=store)], [2, features(X, "toy:rows")]

    return use


def _swap(files: list[pathlib.Path]) -> None:
    first, second = (path.read_bytes() for path in files[:2])
    files[0].write_bytes(second)
    files[1].write_bytes(first)


def _two_at_once(bench: Bench) -> tuple[list, list]:
    code = "np.save(f'{place}/{part}.npy', PretrainedFeatureExtractor('toy:rows', dtype='float32', "
    code += "cache=f'{place}/store').transform(X))"
    both = [_alone(bench, f"part = {part}; {code}") for part in (0, 1)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    expected = features(np.load(bench.place / "X.npy"), "toy:rows")
    found = [np.load(bench.place / f"{part}.npy") for part in (0, 1)]
    return [*found, ActivationStore(bench.place / "store").info()["samples"]], [expected] * 2 + [24]


def _older_layout(bench: Bench) -> tuple[list, list]:
    X, old = bench.table()[0], bench.place / "store" / "v0" / "rows.safetensors"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"of another layout")
    found = features(X, "toy:rows", cache=bench.place / "store")
    return [found, old.read_bytes()], [features(X, "toy:rows"), b"of another layout"]


def _open_to_all(bench: Bench) -> tuple[list, list]:
    X, folder = bench.table()[0], bench.place / "store"
    folder.mkdir()
    folder.chmod(0o777)
    found = features(X, "toy:rows", cache=folder)
    return [found, [*folder.rglob("*.safetensors")]], [features(X, "toy:rows"), []]


def _pickle_of(estimator, version: str | None):
    """A pickle whose stamp is another version's."""

    def use(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
        X, y = bench.table()
        if isinstance(estimator, FeatureAdaptedClassifier):
            y = np.where(np.arange(24) < 16, y, -1)
        model = estimator.fit(X, y)
        with bench.patch.context() as patch:
            patch.setattr("skltransfer._estimators.version_stamp.__version__", version)
            content = pickle.dumps(model)
        copy = pickle.loads(content)
        assert KEY not in vars(copy)
        return copy.predict(X), model.predict(X)

    return use


def _file_of_a_release(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    (path,) = FIXTURES.glob("0.1.0.dev0-tuned.skl")
    expected = np.load(path.with_suffix(".npz"))
    return load(path).predict(expected["X"]).astype(expected["predicted"].dtype), expected["predicted"]


FAULTS = [
    *(
        Fault(70, f"{name}={value!r}", _fit(**{name: value}), ValueError, says=f"'{name}' parameter .* must be {says}")
        for name, value, says in (
            ("max_epochs", 0, r".*in the range \[1, inf\). Got 0 instead"),
            ("max_epochs", "3", r".*an int.*Got '3' instead"),
            ("learning_rate", float("nan"), r".*in the range \(0.0?, inf\).*Got nan instead"),
            ("batch_size", -1, r".*in the range \[1, inf\). Got -1 instead"),
        )
    ),
    Fault(
        71,
        "a stage that is not there",
        _fit(freeze_depth="blok2"),
        ValueError,
        says="freeze_depth must be .*got 'blok2'",
        remedy=r"one of \['block2', ",
    ),
    *(
        Fault(
            72,
            name,
            partial(lambda name, bench: load_backbone(name), name),
            BackboneNotFoundError,
            says=re_name,
            remedy=f"Did you mean .*{meant}",
        )
        for name, re_name, meant in (
            ("torchvision:resnet99", "'resnet99'", "'torchvision:resnet50'"),
            ("resnet18", "'source:model' .*got 'resnet18'", "'torchvision:resnet18'"),
        )
    ),
    Fault(
        73,
        "no network",
        _without_network,
        WeightsError,
        says="'torchvision:resnet34' .*checkpoints",
        remedy="On a machine with network, .*or use .*bundled:efficientnet-lite0",
    ),
    # the hub's own library tries for half a minute to reach it; this answers at once
    Fault(
        73,
        "no network, and none wanted",
        lambda b: load_backbone("hf:no/such", local_files_only=True),
        WeightsError,
        says="'hf:no/such' could not be loaded",
        remedy="On a machine with network, .*name a local folder",
    ),
    Fault(
        74,
        "half a file of weights",
        _damaged_weights("half"),
        WeightsError,
        says="w.pt cannot be read as weights",
        remedy="Expected safetensors, or a state dict written by torch.save",
    ),
    Fault(
        74,
        "a missing tensor",
        _damaged_weights("block2.0.weight"),
        WeightsError,
        says=r"does not fit ToyNetwork: missing \['block2.0.weight'\]",
        remedy="Pass weights of the same architecture",
    ),
    Fault(
        75,
        "a library that is not installed",
        _without_timm,
        MissingDependencyError,
        says="timm",
        remedy="pip install timm",
    ),
    Fault(
        76,
        "a loss that is no number",
        _old_model_stays(TrainingDivergedError, lambda patch, model: model.set_params(learning_rate=1e30)),
        TrainingDivergedError,
        says=r"The loss is nan in epoch \d",
        remedy=r"Lower learning_rate \(now 1e\+30\), or look for extreme values",
    ),
    Fault(
        77,
        "a device that is not there",
        _fit(device="cuda:99"),
        ValueError,
        says="device='cuda:99' is not available here",
        remedy="Use device='auto' or 'cpu'",
    ),
    # batches are never halved in silence: a row's features would depend on it
    Fault(
        77,
        "a device whose memory is full",
        _old_model_stays(
            torch.OutOfMemoryError,
            _raising(torch.OutOfMemoryError("out of memory"), loop._Run, "_take_step", 2),
        ),
        torch.OutOfMemoryError,
        says="out of memory",
    ),
    *(
        Fault(
            78,
            f"an interrupt in {name}, at call {call}",
            _old_model_stays(KeyboardInterrupt, _raising(KeyboardInterrupt(), place, name, call)),
            KeyboardInterrupt,
        )
        for place, name, call in ((loop._Run, "_take_step", 1), (loop._Run, "_take_step", 9))
    ),
    Fault(79, "a fit that is killed after its second epoch", _resumed),
    *(
        Fault(80, errno.errorcode[number], _failing_disk(number), says=SLOWER)
        for number in (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
    ),
    *(
        Fault(81, what, _damaged_store(damage))
        for what, damage in {
            "a flipped bit": lambda files: [_flip(path) for path in files],
            "half a file": lambda files: [os.truncate(path, path.stat().st_size // 2) for path in files],
            "a file that is gone": lambda files: [path.unlink() for path in files],
            "files in each other's places": _swap,
        }.items()
    ),
    Fault(82, "two processes at once", _two_at_once),
    Fault(82, "eviction while in use", _damaged_store(lambda files: [path.unlink() for path in files], in_use=True)),
    Fault(83, "a folder of another layout", _older_layout),
    Fault(83, "a folder that anyone may write into", _open_to_all, says="anyone may write into it; run chmod o-w"),
    *(
        Fault(
            84,
            f"a {type(estimator).__name__} pickled by 0.0.9",
            _pickle_of(estimator, "0.0.9"),
            says=f"This {type(estimator).__name__} was pickled by skltransfer 0.0.9, and is opened by",
            remedy="Fit it again",
        )
        for estimator in (classifier(), ELMClassifier(random_state=0), FeatureAdaptedClassifier())
    ),
    Fault(84, "a file that a release wrote", _file_of_a_release),
]
