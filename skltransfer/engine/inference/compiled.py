"""Frozen stages compiled by OpenVINO for the CPU. What was compiled is kept in the user's cache folder.

Promises that a compiled span was compared with torch's own stages before its first use, and that it may be called from
several threads. Nothing is reported to anybody: OpenVINO is imported without its telemetry.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import io
import itertools
import logging
import os
import sys
import warnings
import weakref
from pathlib import Path
from typing import Any

import torch

from skltransfer._system.files import anyone_may_write, remove, replacing
from skltransfer._system.forks import Lock
from skltransfer.backbones import PADDING_ID, Backbone
from skltransfer.engine.inference import int8
from skltransfer.engine.inference.dtypes import LEAST_COSINE, least_cosine
from skltransfer.engine.inference.runtime import Entries, Function, usual_boundaries
from skltransfer.exceptions import UnsupportedBackboneError

logger = logging.getLogger("skltransfer")
VARIABLE = "SKLTRANSFER_CACHE"
MAX_BYTES = 2 * 2**30  # of the cache folder
TOLERANCE = 1e-4
CHECKED_TOKENS = 20  # not the length of the example that is traced
PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}
COMPOSES, DOES_NOT = b"composes", b"does not compose"
_importing = Lock()


def is_installed() -> bool:
    """True if OpenVINO and the finder of cache folders can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("openvino", "platformdirs"))


class CompiledRuntime:
    """The runtime ``"compiled"``. Several stages are compiled together, since that is faster than one by one.

    Parameters
    ----------
    is_quantized : bool, default=False
        True for matrix products in 8 bits; all else is then in float32.
    """

    name, has_equal_rows = "compiled", True

    def __init__(self, *, is_quantized: bool = False) -> None:
        self.is_quantized = is_quantized
        self._lock = Lock()
        self._spans: weakref.WeakKeyDictionary[Backbone, dict] = weakref.WeakKeyDictionary()
        self._composes: weakref.WeakKeyDictionary[Backbone, dict] = weakref.WeakKeyDictionary()
        self._core: Any = None

    @property
    def key(self) -> str:
        """With its version: another one may add up in another order."""
        return f"openvino {_openvino().get_version()}{' int8' if self.is_quantized else ''}"

    def entries(self, backbone: Backbone, dtype: torch.dtype) -> Entries:
        """Boundaries of the usual depths; none if stages give other bits one by one, as in bfloat16.

        Then each depth is computed from the input: stages in one piece take half to two thirds of the time.
        """
        composes = self._composes.setdefault(backbone, {}).get(dtype, False)
        return Entries(tuple(usual_boundaries(backbone)) if composes else (), compose=composes)

    def rows(self, backbone: Backbone, length: int, dtype: torch.dtype, device: torch.device) -> int:
        """Enough for full speed: one row costs one row."""
        return 1 if backbone.modality == "audio" else 16

    def between(self, backbone: Backbone, start: int, stop: int, dtype: torch.dtype, device: torch.device) -> Function:
        """The compiled stages between two boundaries; torch's own where they cannot be compiled."""
        with self._lock:
            try:
                return self._span(backbone, start, stop, dtype)
            except UnsupportedBackboneError as error:
                logger.info("%s", error)
                key = (start, stop, dtype, torch.get_num_threads())
                return self._spans[backbone].setdefault(key, backbone.prefix(start, stop, dtype, device))

    def _span(self, backbone: Backbone, start: int, stop: int, dtype: torch.dtype) -> Function:
        spans, key = self._spans.setdefault(backbone, {}), (start, stop, dtype, torch.get_num_threads())
        if key not in spans:
            spans[key] = self._compiled(backbone, start, stop, dtype)
        return spans[key]

    def prepare(self, backbone: Backbone, dtype: torch.dtype) -> None:
        """Find out whether the stages can be compiled, and whether they give the same bits one by one and together.

        Raises
        ------
        UnsupportedBackboneError
            If OpenVINO cannot be imported, cannot convert a span, or computes something else.
        """
        try:
            place = self._place(backbone, 0, backbone.n_stages, dtype).with_suffix(".verdict")
        except Exception as error:  # whatever a broken installation raises
            raise UnsupportedBackboneError(f"OpenVINO cannot be used: {error}.") from error
        verdict = _read(place)
        if verdict is None:
            try:
                with self._lock:
                    verdict = COMPOSES if self._try(backbone, dtype) else DOES_NOT
            except UnsupportedBackboneError as error:
                if error.__cause__ is not None:  # an error of the library, which another process may not meet
                    raise
                verdict = str(error).encode()
            _write(place, verdict)
        if verdict not in (COMPOSES, DOES_NOT):
            raise UnsupportedBackboneError(verdict.decode())
        self._composes.setdefault(backbone, {})[dtype] = verdict == COMPOSES

    @torch.inference_mode()
    def _try(self, backbone: Backbone, dtype: torch.dtype) -> bool:
        """Compile the whole network; in float32 also the spans between the usual depths, and compare them."""
        values = _inputs_to_check(backbone)
        whole = self._span(backbone, 0, backbone.n_stages, dtype)(values)
        if dtype != torch.float32 or self.is_quantized:
            return False
        for start, stop in itertools.pairwise([0, *usual_boundaries(backbone), backbone.n_stages]):
            values = self._span(backbone, start, stop, dtype)(values)
        return torch.equal(whole.nan_to_num(), values.nan_to_num())

    def _compiled(self, backbone: Backbone, start: int, stop: int, dtype: torch.dtype) -> "_Span":
        place = self._place(backbone, start, stop, dtype)
        known = _read(place)
        if known is not None:
            try:
                return _Span(self._imported(known, dtype))
            except RuntimeError as error:
                logger.info("a compiled network in %s cannot be read and is made again: %s", place, error)
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing: what it warns of is checked below
            where = f"{backbone.name!r}, stages {backbone.stage_names[start]!r} to {backbone.stage_names[stop - 1]!r}"
            try:
                model = self._compile(self._converted(backbone, start, stop), dtype)
                span = _Span(model)
                difference = _difference(span, backbone, start, stop, dtype, is_quantized=self.is_quantized)
            except Exception as error:  # of a converter of foreign code, whatever it raises
                reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
                raise UnsupportedBackboneError(f"{where}: OpenVINO cannot compile them ({reason[:200]}).") from error
        if difference is not None:
            raise UnsupportedBackboneError(f"{where}: compiled by OpenVINO, {difference}.")
        _keep(place, model)
        return span

    @property
    def core(self) -> Any:
        """OpenVINO's entry point, made at its first use."""
        if self._core is None:
            self._core = _openvino().Core()
        return self._core

    def _settings(self, dtype: torch.dtype) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # two processes would share the first core
            **({"DYNAMIC_QUANTIZATION_GROUP_SIZE": int8.GROUP} if self.is_quantized else {}),
        }

    def _compile(self, model: Any, dtype: torch.dtype) -> Any:
        return self.core.compile_model(model, "CPU", self._settings(dtype))

    def _imported(self, blob: bytes, dtype: torch.dtype) -> Any:
        return self.core.import_model(io.BytesIO(blob), "CPU", self._settings(dtype))

    def _converted(self, backbone: Backbone, start: int, stop: int) -> Any:
        """OpenVINO's model of a span, for any number of rows and tokens."""
        _openvino()
        decoder = importlib.import_module("openvino.frontend.pytorch.ts_decoder").TorchScriptPythonDecoder
        frontend = importlib.import_module("openvino.frontend").FrontEndManager().load_by_framework("pytorch")
        example = backbone.example(2) if start == 0 else torch.zeros(2, *backbone.activation_shapes[start])
        traced = decoder(backbone.prefix(start, stop), example_input=(example,), shared_memory=True)
        model = frontend.convert(frontend.load(traced))
        shape = [-1, *example.shape[1:]]
        if backbone.is_ragged:
            shape[1] = -1
        model.reshape(shape)
        if self.is_quantized:
            int8.round_weights(model)
        return model

    def _place(self, backbone: Backbone, start: int, stop: int, dtype: torch.dtype) -> Path:
        processor = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        versions = (_openvino().get_version(), torch.__version__, os.environ.get("ONEDNN_MAX_CPU_ISA"))
        kind = f"int8 {int8.GROUP}" if self.is_quantized else str(dtype)
        how = (backbone.fingerprint, start, stop, kind, sorted(map(str, processor.items())), versions)
        if getattr(backbone.preprocessing, "segment_step", 0):
            how = (*how, "segments")  # those that were compiled without them would take their ids for other tokens
        return cache_folder() / f"{hashlib.sha256(repr(how).encode()).hexdigest()}.openvino"


class _Span:
    """A compiled model as a function of tensors, to float32; each thread has its own request while it computes."""

    def __init__(self, model: Any) -> None:
        self._model, self._idle = model, []

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        inputs = (batch.float() if batch.is_floating_point() else batch).contiguous().numpy()
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        output = request.infer([inputs], share_inputs=True, share_outputs=True)[0]
        found = torch.from_numpy(output.copy())
        self._idle.append(request)
        return found


def _openvino() -> Any:
    """The library. It reports its import to its makers unless its telemetry is missing."""
    with _importing:
        if "openvino" not in sys.modules:
            sys.modules.setdefault("openvino_telemetry", None)
        try:
            return importlib.import_module("openvino")
        finally:
            if sys.modules.get("openvino_telemetry", "") is None:
                del sys.modules["openvino_telemetry"]


def _difference(
    span: _Span, backbone: Backbone, start: int, stop: int, dtype: torch.dtype, *, is_quantized: bool
) -> str | None:
    """How a span differs from torch's own stages in float32, on inputs of another shape than it was traced with.

    Whether a quantized one is near enough is asked of each fit's own samples.
    """
    inputs = _inputs_to_check(backbone)
    before = backbone.prefix(0, start)(inputs) if start else inputs
    ours, theirs = span(before).float(), backbone.prefix(start, stop)(before)
    if ours.shape != theirs.shape or not torch.equal(ours.isnan(), theirs.isnan()):
        return "they take other tokens for padding, or give another shape"
    ours, theirs = ours.nan_to_num(), theirs.nan_to_num()
    if is_quantized:
        return None
    if dtype == torch.float32:
        error = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-12))
        return None if error <= TOLERANCE else f"they differ by {error:.1e} relative, more than {TOLERANCE:.0e}"
    in_torch = backbone.prefix(start, stop, dtype)(before.to(dtype) if before.is_floating_point() else before)
    cosine, least = least_cosine(ours, theirs), min(LEAST_COSINE, least_cosine(in_torch.float().nan_to_num(), theirs))
    return None if cosine >= least else f"they have a cosine of {cosine:.4f} to float32, below {least:.4f}"


def _inputs_to_check(backbone: Backbone) -> torch.Tensor:
    inputs = backbone.example(3)
    if backbone.is_ragged and backbone.modality == "text":
        more = min(CHECKED_TOKENS, backbone.preprocessing.max_length) - inputs.shape[1]
        inputs = torch.nn.functional.pad(inputs, (0, more), value=PADDING_ID)
        inputs[0, inputs.shape[1] - more :] = inputs[0, :more]
    return inputs


def cache_folder() -> Path:
    """Folder of what was compiled: of the user, or in the folder that the variable ``SKLTRANSFER_CACHE`` names."""
    named = os.environ.get(VARIABLE)
    folder = named or importlib.import_module("platformdirs").user_cache_dir("skltransfer", appauthor=False)
    return Path(folder).expanduser() / "compiled"


def _read(place: Path) -> bytes | None:
    """What a file holds; None if there is none, it is damaged, or it may be another user's."""
    try:
        if _is_foreign(place.parent):
            return None
        content = place.read_bytes()
    except OSError:
        return None
    with contextlib.suppress(OSError):
        os.utime(place)  # of the files that were not read for longest, the folder is freed first
    digest, blob = content[:32], content[32:]
    return blob if hashlib.sha256(blob).digest() == digest else None


def _is_foreign(folder: Path) -> bool:
    """True if other users may have put something there, which OpenVINO would run."""
    is_own = os.name != "posix" or folder.stat().st_uid in (0, os.geteuid())
    if is_own and not anyone_may_write(folder):
        return False
    logger.info("the folder %s is not used: it is another user's, or anyone may write into it (chmod o-w)", folder)
    return True


def _keep(place: Path, model: Any) -> None:
    buffer = io.BytesIO()
    try:
        model.export_model(buffer)
    except RuntimeError as error:
        logger.info("a compiled network cannot be kept: %s", error)
    else:
        _write(place, buffer.getvalue())


def _write(place: Path, content: bytes) -> None:
    """Keep something where the folder can be written to."""
    if len(content) > MAX_BYTES:
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _is_foreign(place.parent):
            return
        with replacing(place) as draft:
            draft.write_bytes(hashlib.sha256(content).digest() + content)
        _make_room(place.parent)
    except OSError as error:
        logger.info("a compiled network is not kept in %s: %s", place.parent, error)


def _make_room(folder: Path) -> None:
    files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in folder.glob("*.openvino"))
    total = sum(size for _, size, _ in files)
    for _, size, path in files:
        if total <= MAX_BYTES:
            return
        total -= size if remove(path) else 0


COMPILED, COMPILED_INT8 = CompiledRuntime(), CompiledRuntime(is_quantized=True)
