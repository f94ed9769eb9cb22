"""The house rules that can be measured: floors, cycles, sizes, tenants."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "skltransfer"
MODULES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {
    "_moved": -1,
    "exceptions": -1,
    "_catalogue": 0,
    "_system": 0,
    "backbones": 1,
    "inputs": 1,
    "engine": 2,
    "_estimators": 3,
    "detection": 4,
    "domain_adaptation": 4,
    "elm": 4,
    "feature_extraction": 4,
    "few_shot": 4,
    "fine_tuning": 4,
    "multi_task": 4,
    "paired_features": 4,
    "pretraining": 4,
    "question_answering": 4,
    "segmentation": 4,
    "tagging": 4,
    "text_generation": 4,
    "transcription": 4,
    "distributed": 5,
    "export": 5,
    "inspection": 5,
    "persistence": 5,
    "testing": 5,
    "model_selection": 6,
    "__init__": 7,
}
WITHIN_ENGINE = {
    "processes": 0,
    "storing": 0,
    "inference": 1,
    "networks": 2,
    "tasks": 3,
    "training": 4,
    "job": 5,
    "pretraining": 5,
    "samplewise": 5,
    "tuning": 6,
    "depth_choice": 7,
    "__init__": 8,
}
MOST_ROOMS = 28
TENANTS = {
    "accelerate": "processes.py",
    "av": "_mp4.py",
    "dask": "distributed.py",
    "huggingface_hub": "_hub.py",
    "keras": "_keras.py _keras_cut.py _keras_graph.py _keras_parts.py",
    "onnx": "_onnx.py",
    "onnxruntime": "_onnx.py",
    "onnxscript": "_onnx.py",
    "peft": "adapters.py",
    "pillow_heif": "_heif.py",
    "pyarrow": "distributed.py",
    "tifffile": "_tiff.py",
    "timm": "_timm.py",
    "torchvision": "_torchvision.py boxes.py detectors.py masks.py",
    "transformers": "_causal_models.py _sequence_models.py _speech_models.py _transformers.py _whole_models.py",
}


def name_of(path: pathlib.Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


@functools.cache
def imported(path: pathlib.Path, *, top_level: bool = False) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def rooms_imported(path: pathlib.Path, house: str, floors: dict[str, int]) -> set[str]:
    """What is imported from rooms of a house; what comes from its front door counts as its top floor."""
    inside = {name.removeprefix(f"{house}.").split(".")[0] for name in imported(path) if name.startswith(f"{house}.")}
    return {room if room in floors else "__init__" for room in inside}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downstairs_only(path):
    room = name_of(path).split(".")[0]
    assert room in FLOORS, f"{room} has no floor; give it one here and in docs/explanation/architecture.md"
    for other in rooms_imported(path, "skltransfer", FLOORS) - {room}:
        assert FLOORS[other] < FLOORS[room], f"{room} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})"


@pytest.mark.parametrize("path", sorted((PACKAGE / "engine").rglob("*.py")), ids=name_of)
def test_imports_within_the_engine_go_downstairs_only(path):
    room, floors = f"{name_of(path)}.__init__".split(".")[1], WITHIN_ENGINE
    assert room in floors, f"engine.{room} has no floor; give it one here and in docs/explanation/architecture.md"
    for other in rooms_imported(path, "skltransfer.engine", WITHIN_ENGINE) - {room}:
        assert floors[other] < floors[room], f"{room} (floor {floors[room]}) imports {other} (floor {floors[other]})"


def test_the_root_has_few_rooms():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert len(rooms - {"__init__"}) <= MOST_ROOMS


def test_there_is_no_import_cycle():
    names = {f"skltransfer.{name_of(path)}": path for path in MODULES}
    graph = {name: imported(path) & names.keys() - {name} for name, path in names.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_foreign_library_has_one_tenant_who_imports_it_late(path):
    for library, tenant in TENANTS.items():
        if any(name.split(".")[0] == library for name in imported(path)):
            assert path.name in tenant.split()
        assert not any(name.split(".")[0] == library for name in imported(path, top_level=True))


def lines_without_docstring(node: ast.AST) -> int:
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str)
    return first.end_lineno - first.lineno + 1 if is_docstring else 0


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_stay_under_400_lines_and_functions_under_50(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    docstrings = sum(lines_without_docstring(n) for n in ast.walk(tree) if isinstance(n, documented) and n.body)
    assert len(text.splitlines()) - docstrings < 400
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.body[0].lineno + 1 - lines_without_docstring(node)
            assert length <= 50, f"{path.name}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", [p for p in MODULES if p.read_text()], ids=name_of)
def test_each_module_opens_with_a_docstring(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "joblib.load",
    "torch.jit.load",
}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_that_a_file_holds_is_run(path):
    for call in (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)):
        name, options = ast.unparse(call.func), {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert name not in FORBIDDEN, f"{path.name}, line {call.lineno}: {name}"
        assert "allow_pickle" not in options
        if name == "torch.load":
            assert options.get("weights_only") == "True", f"{path.name}, line {call.lineno}: weights_only"


SHARED_LOCKS = {"functools.cached_property", "torch.manual_seed", "torch.autocast"}  # the first until Python 3.12


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent.name != "testing"], ids=name_of)
def test_nothing_takes_a_lock_that_a_forked_child_may_find_closed(path):
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    assert not SHARED_LOCKS & {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_log_is_called_skltransfer_and_says_nothing_unasked(path):
    """What a user must see is a warning; below that level, Python shows nothing unless asked."""
    if path.name == "_onnx.py":
        return  # it keeps onnxruntime from giving the root logger a handler, by lending it one that is silent
    for call in (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)):
        name = ast.unparse(call.func)
        assert not name.endswith((".basicConfig", ".addHandler", ".setLevel"))
        if name == "logging.getLogger":
            assert ast.unparse(call) == "logging.getLogger('skltransfer')"
        if name.startswith("logger."):
            assert name in ("logger.debug", "logger.info")


def test_importing_the_package_loads_no_model_library():
    code = (
        "import sys, skltransfer; "
        "print([m for m in ('torch', 'torchvision', 'transformers', 'PIL', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


SNAPSHOT = """
import logging, os, warnings, sklearn, torch

def snapshot():
    generator = torch.get_rng_state().tolist()
    return dict(os.environ), logging.getLogger().level, torch.get_num_threads(), generator, warnings.filters[:]

before = snapshot()
import skltransfer
for name in skltransfer.__all__:
    getattr(skltransfer, name)
assert snapshot()[:4] == before[:4]
assert not any("skltransfer" in str(new) for new in snapshot()[4])
"""


def test_importing_everything_leaves_the_process_as_it_was():
    subprocess.run([sys.executable, "-c", SNAPSHOT], check=True)


def test_values_of_the_engine_stay_small():
    """A dataclass of many fields is several things; what belongs together is a value of its own."""
    for path in sorted((PACKAGE / "engine").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in node.decorator_list):
                fields = [line for line in node.body if isinstance(line, ast.AnnAssign)]
                assert len(fields) <= 14, f"{path.name}: {node.name} has {len(fields)} fields"
