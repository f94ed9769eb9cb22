"""The front door: sorted, complete, documented, typed, with examples."""

import importlib
import inspect
import pathlib
import re
import typing

import pytest

import skltransfer
from skltransfer import model_selection

ROOT = pathlib.Path(__file__).parent.parent
DOORS = [skltransfer, model_selection]
PUBLIC = sorted({name: getattr(door, name) for door in DOORS for name in door.__all__}.items())
ESTIMATORS = [(name, thing) for name, thing in PUBLIC if hasattr(thing, "fit")]


def methods_of(thing):
    for name, member in inspect.getmembers(thing):
        if not name.startswith("_") and getattr(member, "__module__", "").startswith("skltransfer"):
            yield name, member


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_all_is_sorted_and_everything_in_it_is_there(door):
    assert door.__all__ == sorted(set(door.__all__))
    assert set(door.__all__) <= set(dir(door))


def test_one_name_means_one_thing_at_all_doors():
    for name in set(skltransfer.__all__) & set(model_selection.__all__):
        assert getattr(skltransfer, name) is getattr(model_selection, name)


def test_an_unknown_name_is_refused_with_the_names_that_exist():
    with pytest.raises(AttributeError, match=r"no attribute 'FineTuner'; it offers \["):
        skltransfer.FineTuner  # noqa: B018


@pytest.mark.parametrize(("name", "thing"), PUBLIC)
def test_public_names_have_a_docstring_with_an_example(name, thing):
    assert ">>>" in inspect.getdoc(thing), f"{name} has no example"


@pytest.mark.parametrize(("name", "thing"), PUBLIC)
def test_public_methods_are_documented_and_typed(name, thing):
    members = methods_of(thing) if inspect.isclass(thing) else [(name, thing)]
    for member_name, member in members:
        assert inspect.getdoc(member), f"{name}.{member_name} has no docstring"
        if inspect.isfunction(member):
            parameters = [p for p in inspect.signature(member).parameters if p not in ("self", "cls")]
            hints = typing.get_type_hints(member)
            assert set(parameters) <= hints.keys(), f"{name}.{member_name}: {set(parameters) - hints.keys()} untyped"


@pytest.mark.parametrize(("name", "thing"), ESTIMATORS)
def test_each_parameter_is_documented_constrained_and_kept_as_it_is(name, thing):
    parameters = [p for p in inspect.signature(thing.__init__).parameters if p != "self"]
    documented = re.split(r"\n\s*Attributes\n", inspect.getdoc(thing))[0]
    for parameter in parameters:
        assert re.search(rf"^(\w+, )*{parameter}(, \w+)* : ", documented, re.MULTILINE), (
            f"{name}: {parameter} undocumented"
        )
    assert set(thing._parameter_constraints) == set(parameters)
    passed = {parameter: object() for parameter in parameters}
    made = thing(**passed)
    assert vars(made) == passed  # and nothing else is set
    assert made.get_params(deep=False) == passed


@pytest.mark.parametrize("name", [name for name, _ in PUBLIC])
def test_each_public_name_stands_in_the_reference(name):
    assert f"`{name}`" in (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")


def test_show_versions_names_what_a_bug_report_needs(capsys):
    skltransfer.show_versions()
    shown = capsys.readouterr().out
    for library in ("python", "skltransfer", "scikit-learn", "torch", "torchvision", "transformers"):
        assert re.search(rf"^{library}: \d", shown, re.MULTILINE)


def test_the_version_is_in_the_changelog():
    assert f"## {skltransfer.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("door", ["skltransfer", "skltransfer.domain_adaptation"])
def test_a_type_checker_sees_the_names_that_a_lazy_module_offers(door):
    module = importlib.import_module(door)
    stub = pathlib.Path(module.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    seen = {name for name in re.findall(r" as (\w+)$", stub, re.MULTILINE) if not name.startswith("_")}
    assert seen == set(module.__all__)
