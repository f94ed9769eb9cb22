"""Forks, workers, threads and interrupts: the same scores, no hang, and nothing half-done."""

import contextlib
import inspect
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from children import ended, is_gone, run, started
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from stores import forget

from skltransfer import ActivationStore, FineTunedClassifier, PretrainedFeatureExtractor
from skltransfer._system import files, forks
from skltransfer.engine.inference import rows

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
DATA = """
import faulthandler, os, signal, sys, threading
import numpy as np
import torch
from skltransfer import FineTunedClassifier, PretrainedFeatureExtractor
X = np.random.default_rng(0).random((48, 16, 16)) * 0.5
y = np.arange(48) % 2
X[y == 0, :8] += 0.5
model = FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=2, random_state=0, dtype="float32", cache=None)

def forked(action):
    \"\"\"Whether ``action`` ends well in a child, before it is stopped.\"\"\"
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(15)  # where it hangs
        signal.alarm(20)
        try:
            action()
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        print(f"{action.__name__} ended with {status}", file=sys.stderr, flush=True)
    return status == 0
"""

# Forks


@needs_fork
@pytest.mark.slow
def test_a_forked_child_predicts_and_fits_while_a_thread_of_its_parent_trains():
    child = started(
        DATA
        + """
expected = model.fit(X, y).predict_proba(X)
over = threading.Event()

def train():
    while not over.wait(0):
        FineTunedClassifier("toy:images", freeze_depth=0.0, max_epochs=3, cache=None).fit(X, y)

def predict():
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-5)

def fit():
    np.testing.assert_allclose(model.fit(X, y).predict_proba(X), expected, atol=1e-3)

trainer = threading.Thread(target=train)
trainer.start()
print(all(forked(action) for action in (predict, predict, fit) * 4))
over.set()
trainer.join()
""",
        threads=2,
    )
    _, shown, complaints = ended(child)
    assert shown == "True\n", complaints


@pytest.mark.slow
@needs_fork
def test_a_forked_child_finds_all_locks_open(tmp_path):
    """Whichever a thread of its parent held."""
    shown = run(
        DATA
        + """
from skltransfer import ActivationStore
from skltransfer._system import forks
store = ActivationStore(sys.argv[1])
model.set_params(cache=store).fit(X, y)
held, over = threading.Event(), threading.Event()

def hold():
    locks = list(forks._all)
    for lock in locks:
        lock.__enter__()
    held.set()
    over.wait()
    for lock in locks:
        lock.__exit__()

holder = threading.Thread(target=hold)
holder.start()
held.wait()
print(len(forks._all) >= 8, forked(lambda: model.fit(X, y).predict(X / 2)))
over.set()
holder.join()
""",
        tmp_path,
    )
    assert shown == "True True\n"


@pytest.mark.slow
@needs_fork
def test_a_fork_waits_while_another_thread_draws(tmp_path):
    """Torch holds a lock of its own then, which nobody could open in the child."""
    shown = run(
        DATA
        + """
from skltransfer.backbones._random import seeded
drawing, over = threading.Event(), threading.Event()

def draw():
    while not over.is_set():
        with seeded(0):
            drawing.set()
            torch.empty(20_000_000).normal_()  # 0.2 s

drawer = threading.Thread(target=draw)
drawer.start()
drawing.wait()
print([forked(lambda: model.fit(X, y)) for _ in range(3)])
over.set()
drawer.join()
""",
        threads=2,
    )
    assert shown == "[True, True, True]\n"


@needs_fork
def test_a_fork_within_a_draw_or_beside_one_that_does_not_end_goes_ahead():
    shown = run(
        DATA
        + """
import time
from skltransfer._system.forks import Lock
lock, held, over = Lock().holds_back_forks(at_most=0.3), threading.Event(), threading.Event()
with lock:
    print(forked(lambda: lock.__enter__()))

def hold():
    with lock:
        held.set()
        over.wait()

holder = threading.Thread(target=hold)
holder.start()
held.wait()
start = time.monotonic()
print(forked(lambda: lock.__enter__()), 0.3 <= time.monotonic() - start < 10)
over.set()
holder.join()
with lock:
    print("open")
"""
    )
    assert shown.split() == ["True", "True", "True", "open"]


def test_a_renewed_lock_is_open_unless_it_is_our_own():
    lock, held, over = forks.Lock(), threading.Event(), threading.Event()

    def hold():
        with contextlib.suppress(RuntimeError), lock, lock:  # what it holds is taken from it, as no fork would do
            held.set()
            over.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    assert not lock.acquire(blocking=False)
    lock.renew()
    with lock:
        lock.renew()  # as in a child that this thread forks
        seen = []
        other = threading.Thread(target=lambda: seen.append(lock.acquire(blocking=False)))
        other.start()
        other.join()
    assert seen == [False]
    over.set()
    holder.join()


def test_an_interrupt_leaves_no_lock_closed():
    """Its methods are in C: where they were Python's, an interrupt at the first line of ``__exit__`` left it closed."""
    lock, entered, free = forks.Lock(), [], []

    def interrupt(frame, event, argument):
        if event == "call" and frame.f_code.co_filename == forks.__file__:
            entered.append(frame.f_code.co_name)
            raise InterruptedError

    sys.setprofile(interrupt)
    with contextlib.suppress(InterruptedError), lock:
        pass
    sys.setprofile(None)
    other = threading.Thread(target=lambda: free.append(lock.acquire(blocking=False)))
    other.start()
    other.join()
    assert (entered, free) == ([], [True])


def test_without_fork_no_hook_is_asked_for(photos, monkeypatch):
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    monkeypatch.setattr(rows, "_guard", [])
    forks.after_fork_in_child(print)
    PretrainedFeatureExtractor("toy:images", cache=None).transform(photos)
    assert rows._guard
    absent = "import os, torch; vars(os).pop('fork', 0); vars(os).pop('register_at_fork', 0)\n"
    run(absent + "from skltransfer import PretrainedFeatureExtractor as E; E('toy:rows').transform([[0.0, 1.0]])")


TEXTS = """
import os, sys, threading
import numpy as np, tokenizers, transformers
from skltransfer import PretrainedFeatureExtractor, load_backbone
folder, words = sys.argv[1], {word: i for i, word in enumerate("[PAD] [UNK] [CLS] [SEP] a good bad film".split())}
backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
fast = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", model_max_length=64)
fast.save_pretrained(folder)
sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
transformers.BertModel(transformers.BertConfig(vocab_size=8, **sizes)).save_pretrained(folder)
fast([f"a good film {i}" for i in range(1000)])  # many at once: the tokenizer's own threads start
before = threading.active_count()
load_backbone(f"hf:{folder}")
print(threading.active_count() - before)
"""


@needs_fork
@pytest.mark.slow
def test_a_forked_child_reads_texts_though_the_tokenizer_had_threads(tmp_path):
    shown = run(
        DATA
        + TEXTS
        + """
extractor = PretrainedFeatureExtractor(f"hf:{folder}", dtype="float32", cache=None)
texts = ["a good film", "a bad film", "film"]
expected = extractor.transform(texts)
same = forked(lambda: np.testing.assert_allclose(extractor.transform(texts), expected))
print(os.environ["TOKENIZERS_PARALLELISM"], same)
""",
        tmp_path,
        threads=2,
        TOKENIZERS_PARALLELISM="true",
    )
    assert shown == "0\ntrue True\n"  # and loading leaves no thread behind


# Workers

SEARCH = """
import sys
import joblib
import numpy as np
import torch
from sklearn.model_selection import GridSearchCV, cross_validate
from skltransfer import FineTunedClassifier
rng = np.random.default_rng(0)
X, y = rng.random((60, 48, 48)) * 0.8, np.arange(60) % 2  # 1.1 MB: joblib hands it on as a read-only map
X[y == 0, :24] += 0.2

def search(n_jobs):
    model = FineTunedClassifier("toy:images", max_epochs=2, random_state=0, dtype="float32", cache=sys.argv[1])
    return GridSearchCV(model, {"freeze_depth": [1.0, 0.5]}, cv=2, scoring="neg_log_loss", n_jobs=n_jobs,
                        error_score="raise")
"""


@pytest.fixture(scope="module")
def expected_scores(tmp_path_factory):
    shown = run(
        SEARCH + "print(search(1).fit(X, y).cv_results_['mean_test_score'].tolist())", tmp_path_factory.mktemp("s")
    )
    return eval(shown)


@pytest.mark.parametrize(
    "backend", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("loky", "threading")), "multiprocessing"]
)
@pytest.mark.slow
def test_all_of_joblibs_backends_give_the_same_scores(tmp_path, expected_scores, backend):
    shown = run(
        SEARCH
        + f"""
sums = X.sum(), search(1).fit(X, y).predict(X).tolist()  # so that this process has used its threads before it forks
with joblib.parallel_config({backend!r}):
    found = search(2).fit(X, y)
print(found.cv_results_["mean_test_score"].tolist(), (X.sum(), found.predict(X).tolist()) == sums)
""",
        tmp_path,
        threads=2,
    )
    scores, unchanged = shown.rsplit(" ", 1)
    np.testing.assert_allclose(eval(scores), expected_scores, atol=1e-6)
    assert unchanged == "True\n"


@pytest.mark.slow
def test_a_search_in_workers_of_a_validation_in_workers_scores_as_one_process_does(tmp_path):
    shown = run(
        SEARCH
        + """
options = {"cv": 2, "scoring": "neg_log_loss", "error_score": "raise"}
found = [cross_validate(search(n), X[:40], y[:40], n_jobs=n, **options)["test_score"] for n in (1, 2)]
np.testing.assert_allclose(*found, atol=1e-6)
print("alike")
""",
        tmp_path,
    )
    assert shown == "alike\n"


@pytest.mark.slow
def test_workers_share_the_processors_threads(tmp_path):
    """Processes of joblib's; threads of the threading backend each use as many as torch is set to."""
    shown = run(
        SEARCH
        + """
def threads(_):
    search(1).estimator.fit(X[:8], y[:8])
    return torch.get_num_threads()

search(1).estimator.fit(X[:8], y[:8])
for backend in ("loky", "multiprocessing"):
    with joblib.parallel_config(backend):
        print(max(joblib.Parallel(n_jobs=2)(joblib.delayed(threads)(i) for i in range(2))))
print(joblib.cpu_count())
""",
        tmp_path,
        threads=os.cpu_count(),
    )
    of_loky, of_forks, processors = map(int, shown.split())
    assert of_loky <= max(1, processors // 2)
    assert of_forks == 1


KILLED = """
import os, signal, sys
import joblib
import numpy as np
from skltransfer import ActivationStore, PretrainedFeatureExtractor
photos = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)

def work(part, dies):
    store = ActivationStore(sys.argv[1])
    found = PretrainedFeatureExtractor("toy:images", dtype="float32", cache=store).transform(part)
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory is short
    return found, store.info()["misses"]

def run(parts, dies):
    return joblib.Parallel(n_jobs=2)(joblib.delayed(work)(part, dies) for part in parts)

parts = np.split(photos, 2)
try:
    run(parts[:1], True)
except joblib.externals.loky.process_executor.TerminatedWorkerError as error:
    print(type(error).__name__)
found = run(parts, False)
print([n for _, n in found])
expected = PretrainedFeatureExtractor("toy:images", dtype="float32", cache=None).transform(photos)
np.testing.assert_array_equal(np.concatenate([part for part, _ in found]), expected)
"""


@pytest.mark.slow
def test_what_a_killed_worker_wrote_is_not_computed_again(tmp_path):
    assert run(KILLED, tmp_path).splitlines() == ["TerminatedWorkerError", "[0, 20]"]


SMALL = """
import pathlib, subprocess
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", "/dev/shm"], check=True)
found = search(2).fit(X, y)
print(sum(path.stat().st_size for path in pathlib.Path("/dev/shm").rglob("*") if path.is_file()) < 2**18)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root mounts another /dev/shm")
def test_little_shared_memory_is_enough(tmp_path):
    """As in a container: nothing is handed on through it by us."""
    private = ["unshare", "--mount", "--propagation", "private"]
    if shutil.which("unshare") is None or subprocess.run([*private, "true"], capture_output=True).returncode:
        pytest.skip("there is no way to mount another /dev/shm here")
    assert run(SEARCH + SMALL, tmp_path, within=private) == "True\n"


# Threads


def test_a_thread_that_trains_does_not_disturb_one_that_predicts(two_kinds):
    X, y = two_kinds
    model = FineTunedClassifier("toy:images", freeze_depth=0.0, max_epochs=2, cache=None, random_state=0).fit(X, y)
    expected, over = model.predict_proba(X), threading.Event()

    def train():
        while not over.is_set():
            clone(model).set_params(norm_policy="train", learning_rate=0.1).fit(X, y)

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        for _ in range(60):
            np.testing.assert_array_equal(model.predict_proba(X), expected)
    finally:
        over.set()
        trainer.join()


def test_photos_in_a_read_only_map_are_read_and_left_alone(rng, tmp_path):
    np.save(tmp_path / "X.npy", rng.integers(0, 256, (40, 24, 24, 3), dtype=np.uint8))
    X, y = np.load(tmp_path / "X.npy", mmap_mode="r"), np.arange(40) % 2
    before = (tmp_path / "X.npy").read_bytes()
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=2, random_state=0)
    expected = clone(model).fit(np.array(X), y).predict_proba(np.array(X))
    np.testing.assert_array_equal(model.fit(X, y).predict_proba(X), expected)
    assert (tmp_path / "X.npy").read_bytes() == before


# Another machine


@pytest.fixture
def fitted_on_gpu(two_kinds):
    """What a fit on a GPU leaves: the arrays are a processor's, the names are a GPU's."""
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=1, random_state=0, dtype="float32")
    model.fit(*two_kinds).device_ = "cuda:0"
    assert b"cuda" in pickle.dumps(model)
    return model


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_model_of_a_gpu_opens_without_one(two_kinds, fitted_on_gpu):
    X, expected = two_kinds[0], fitted_on_gpu.predict_proba(two_kinds[0])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted_on_gpu)).predict_proba(X), expected)
    asked_for = pickle.loads(pickle.dumps(fitted_on_gpu.set_params(device="cuda")))
    with pytest.raises(ValueError, match=r"device='cuda' is not available here .*Use device='auto' or 'cpu'"):
        asked_for.predict(X)
    np.testing.assert_array_equal(asked_for.set_params(device="cpu").predict_proba(X), expected)


def test_a_child_forked_after_its_parent_used_a_gpu_is_told(two_kinds, fitted_on_gpu, monkeypatch):
    said = "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, use 'spawn'"

    def forked(*arguments, device=None, **options):
        raise RuntimeError(said)

    monkeypatch.setattr(torch, "zeros", forked)
    with pytest.raises(ValueError, match=f"device='cuda' is not available here .{said}"):
        fitted_on_gpu.set_params(device="cuda").predict(two_kinds[0])


# Interrupts


class Interrupt:
    """A profiler that presses Ctrl-C when the package's code is entered for the n-th time.

    Attributes
    ----------
    in_generator : bool
        Whether that was a generator's: Python also enters these to close them, and then swallows what is raised.
    """

    def __init__(self, n=None):
        self.n, self.count, self.in_generator = n, 0, False

    def __call__(self, frame, event, argument):
        if event == "call" and f"{os.sep}skltransfer{os.sep}" in frame.f_code.co_filename:
            self.count += 1
            if self.count == self.n:
                self.in_generator = bool(frame.f_code.co_flags & inspect.CO_GENERATOR)
                raise KeyboardInterrupt

    def __enter__(self):
        sys.setprofile(self)
        return self

    def __exit__(self, *exception):
        sys.setprofile(None)


def interrupted_at(n, search, X, y):
    """A search whose fit Ctrl-C ended at its n-th step, or at the next one that Python lets end it."""
    while True:
        interrupted = search()
        with Interrupt(n) as ctrl_c:
            try:
                interrupted.fit(X, y)
            except KeyboardInterrupt:
                return interrupted
        assert ctrl_c.in_generator, "Ctrl-C was not heeded"
        n += 1


@pytest.mark.parametrize("folder", [False, True], ids=["memory", "folder"])
def test_an_interrupt_at_any_step_of_a_search_ends_it_and_leaves_the_store_whole(two_kinds, tmp_path, folder):
    X, y = two_kinds
    places = iter(range(1000))

    def search():
        store = ActivationStore(tmp_path / str(next(places)) if folder else None)
        model = FineTunedClassifier("toy:images", max_epochs=1, random_state=0, dtype="float32", cache=store)
        return GridSearchCV(model, {"freeze_depth": [1.0, 0.5]}, cv=2, scoring="neg_log_loss")  # errors become NaN

    whole = search().fit(X, y)  # the first in a process takes more steps
    again = search()
    with Interrupt() as uninterrupted:
        again.fit(X, y)
    assert uninterrupted.count > 1000
    for n in np.linspace(1, uninterrupted.count, 12).astype(int):
        interrupted = interrupted_at(n, search, X, y)
        with contextlib.suppress(NotFittedError, AttributeError):  # unfitted, or all of it
            np.testing.assert_array_equal(interrupted.predict_proba(X), whole.predict_proba(X))
        interrupted.fit(X, y)  # with what the store had by then
        for name in ("mean_test_score", "std_test_score"):
            np.testing.assert_array_equal(interrupted.cv_results_[name], whole.cv_results_[name])


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_ctrl_c_ends_a_process_that_searches(tmp_path, n_jobs):
    child = started(
        SEARCH
        + "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # `make test &` has it ignored
        f"search_, X, y = search({n_jobs}), np.tile(X, (20, 1, 1)), np.tile(y, 20)\n"
        "search_.estimator.set_params(max_epochs=10**6)\nprint('begins', flush=True)\nsearch_.fit(X, y)",
        tmp_path,
    )
    assert child.stdout.readline() == "begins\n", ended(child)
    time.sleep(3)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    status, _, complaints = ended(child)
    assert is_gone(child), "its workers went on"
    assert status != 0
    assert "KeyboardInterrupt" in complaints


# What Windows does otherwise


@pytest.fixture
def busy(monkeypatch):
    """``busy(method, n)``: the first n calls are refused, as while another process reads; the calls are counted."""

    def refuse(owner, name, n):
        true, calls = getattr(owner, name), []

        def maybe(*arguments, **options):
            calls.append(arguments)
            if len(calls) <= n:
                raise PermissionError(13, "The process cannot access the file because it is being used by another one")
            return true(*arguments, **options)

        monkeypatch.setattr(owner, name, maybe)
        monkeypatch.setattr(files.time, "sleep", lambda _: None)
        return calls

    return refuse


def test_a_file_that_another_process_reads_is_replaced_as_soon_as_it_is_closed(tmp_path, busy):
    path = tmp_path / "file"
    path.write_text("old")
    calls = busy(os, "replace", len(files.PAUSES))
    with files.replacing(path) as draft:
        draft.write_text("new")
    assert len(calls) == len(files.PAUSES) + 1
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_stays_in_use_is_left_as_it_was(tmp_path, busy):
    path = tmp_path / "file"
    path.write_text("old")
    calls = busy(os, "replace", 100)
    with pytest.raises(PermissionError, match="used by another"), files.replacing(path) as draft:
        draft.write_text("new")
    assert len(calls) == len(files.PAUSES) + 1
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_store_whose_files_cannot_be_deleted_works_on(photos, tmp_path, busy):
    """Files that another process reads stay; the store is then as full as they make it, and damage is mended."""
    expected = features = PretrainedFeatureExtractor("toy:images", dtype="float32", cache=None).transform(photos)
    small = ActivationStore(tmp_path, max_bytes=4000)
    extractor = PretrainedFeatureExtractor("toy:images", dtype="float32", cache=small)
    np.testing.assert_array_equal(extractor.transform(photos), expected)
    (file,) = tmp_path.rglob("*.safetensors")
    busy(type(file), "unlink", 100)
    extractor.set_params(pooling="max").transform(photos)
    assert list(tmp_path.rglob("*.safetensors")) == [file]
    file.write_bytes(b"damaged")
    forget(small)
    features = extractor.set_params(pooling="auto").transform(photos)
    np.testing.assert_array_equal(features, expected)


@pytest.mark.slow
def test_either_of_two_libraries_may_be_imported_first():
    """Each brings threads of its own."""
    for first in ("torch", "sklearn.linear_model"):
        run(f"import {first}\n" + DATA + "model.fit(X, y).predict(X)")
