"""Folders of pictures: what is read, what is skipped, and what is told."""

import os
import re
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from skltransfer import FineTunedClassifier, load_image_folder
from skltransfer.inputs._image_folder import OF_NOTES, SUFFIXES

HIDDEN = [".ipynb_checkpoints", ".thumbnails", "@eaDir", "__MACOSX", ".AppleDouble", "#recycle", "lost+found"]


def folder_of(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def read(root):
    paths, labels = load_image_folder(root)
    return [os.path.relpath(path, root).replace(os.sep, "/") for path in paths], labels.tolist()


@pytest.mark.parametrize("hidden", HIDDEN)
def test_hidden_folders_and_those_of_systems_are_skipped_at_any_depth(tmp_path, hidden):
    folder_of(
        tmp_path, "ants/1.jpg", f"ants/{hidden}/1.jpg", f"ants/a/{hidden}/b/2.jpg", f"{hidden}/3.jpg", "bees/1.jpg"
    )
    folder_of(tmp_path, "ants/Thumbs.db", "ants/._1.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path) == (["ants/1.jpg", "bees/1.jpg"], ["ants", "bees"])


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".JPG", ".JFIF"])
def test_each_suffix_of_a_picture_is_found(tmp_path, suffix):
    assert read(folder_of(tmp_path, f"ants/1{suffix}", "bees/1.jpg"))[0] == [f"ants/1{suffix}", "bees/1.jpg"]


def test_paths_are_sorted_by_class_and_name(tmp_path):
    folder_of(tmp_path, "bees/0.PNG", "ants/2.png", "ants/1.png", "ants/a/0.png", "ants/notes.txt")
    found = ["ants/1.png", "ants/2.png", "ants/a/0.png", "bees/0.PNG"], ["ants", "ants", "ants", "bees"]
    assert read(tmp_path) == found


def test_other_names_of_jpeg_are_read(tmp_path):
    for name in ("ants/1.jfif", "bees/1.jpe", "ants/2.jpg", "bees/2.jpeg"):
        folder_of(tmp_path, name)
        Image.new("RGB", (16, 16)).save(tmp_path / name, "JPEG")
    paths, labels = load_image_folder(tmp_path)
    assert FineTunedClassifier("toy:images", freeze_depth=1.0).fit(paths, labels).predict(paths).shape == (4,)


def test_classes_of_which_nothing_can_be_read_are_refused_by_name(tmp_path):
    folder_of(tmp_path, "ants/1.jpg", "bees/1.psd", "wasps/1.dng", "flies/1")
    with pytest.raises(FileNotFoundError, match=r"'bees', 'flies', 'wasps'.*'.psd', '', '.dng'.*Convert these files"):
        load_image_folder(tmp_path)


def test_single_files_of_unknown_suffixes_are_counted_in_one_warning(tmp_path):
    folder_of(tmp_path, "ants/1.jpg", "ants/2.dng", "bees/1.jpg", "bees/a/2.dng", "bees/3.svg")
    with pytest.warns(UserWarning, match=r"2 of '.dng', 1 of '.svg'") as caught:
        assert read(tmp_path)[1] == ["ants", "bees"]
    assert len(caught) == 1


def test_notes_about_pictures_are_left_out_without_a_word(tmp_path):
    folder_of(tmp_path, "ants/1.jpg", "bees/1.jpg", "LICENSE", "ants/README", *(f"ants/notes{s}" for s in OF_NOTES))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path)[1] == ["ants", "bees"]


def test_a_class_without_a_picture_is_told(tmp_path):
    folder_of(tmp_path, "ants/1.jpg", "bees/1.jpg", "labels/1.xml")
    (tmp_path / "wasps").mkdir()
    with pytest.warns(UserWarning, match="hold no image, so they give no class: 'labels', 'wasps'"):
        assert read(tmp_path)[1] == ["ants", "bees"]


@pytest.mark.parametrize("splits", [("train", "val"), ("Training", "TEST"), ("train",), ("training", "validation")])
def test_splits_are_not_taken_for_classes_without_a_word(tmp_path, splits):
    folder_of(tmp_path, *(f"{split}/{kind}/1.jpg" for split in splits for kind in ("ants", "bees")))
    wanted = re.escape(f"load_image_folder({str(tmp_path / sorted(splits)[0])!r})")
    with pytest.warns(UserWarning, match=f"look like splits of the data.*call {wanted}"):
        load_image_folder(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path / splits[0])[1] == ["ants", "bees"]


def test_a_folder_around_the_folder_is_told(tmp_path):
    folder_of(tmp_path, "insects/ants/1.jpg", "insects/bees/1.jpg")
    with pytest.warns(UserWarning, match=r"one class only: 'insects'.*call load_image_folder\(.*insects'\)"):
        load_image_folder(tmp_path)


def test_classes_that_happen_to_be_called_like_splits_are_read(tmp_path):
    folder_of(tmp_path, "train/1.jpg", "train/express/2.jpg", "car/1.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path)[1] == ["car", "train", "train"]


def test_pictures_beside_the_class_folders_are_told(tmp_path):
    folder_of(tmp_path, "ants/1.jpg", "bees/1.jpg", "7.jpg", "8.PNG")
    with pytest.warns(UserWarning, match="beside the class folders are left out: '7.jpg', '8.PNG'"):
        assert read(tmp_path)[1] == ["ants", "bees"]


@pytest.mark.parametrize(
    ("names", "came"),
    [
        ((), "holds no folder"),
        (("1.jpg",), "images are directly inside it, such as '1.jpg'"),
        (("ants/1.txt",), "folders are 'ants'"),
    ],
)
def test_a_folder_without_a_picture_in_a_class_says_what_it_holds(tmp_path, names, came):
    with pytest.raises(FileNotFoundError, match=f"No images in .*{came}.*Expected .*<class>/<image>"):
        load_image_folder(folder_of(tmp_path, *names))


def test_a_file_is_no_folder(tmp_path):
    with pytest.raises(NotADirectoryError, match=r"photos\.zip' is a file; expected a folder.*unpack"):
        load_image_folder(folder_of(tmp_path, "photos.zip") / "photos.zip")
    with pytest.raises(FileNotFoundError, match="No folder .*absent"):
        load_image_folder(tmp_path / "absent")


def test_links_in_a_circle_end_and_are_told(tmp_path):
    folder_of(tmp_path, "ants/1.jpg", "bees/1.jpg", "elsewhere/1.jpg")
    (tmp_path / "ants" / "up").symlink_to(tmp_path)
    (tmp_path / "bees" / "self").symlink_to(tmp_path / "bees")
    (tmp_path / "all").symlink_to(tmp_path)
    (tmp_path / "wasps").symlink_to(tmp_path / "elsewhere")  # a class may be a link
    with pytest.warns(UserWarning, match=r"not followed: '.*all', '.*up', '.*self'"):
        assert read(tmp_path)[1] == ["ants", "bees", "elsewhere", "wasps"]


def test_a_folder_that_may_not_be_listed_is_not_passed_over(tmp_path, monkeypatch):
    folder_of(tmp_path, "ants/1.jpg", "ants/more/2.jpg", "bees/1.jpg")
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError, match="more"):
        load_image_folder(tmp_path)


NAMES = st.sampled_from(["ants", "bees", "train", "a", ".hidden", "@eaDir", "x.jpg"])
FILES = st.sampled_from(["1.jpg", "2.JFIF", "3.dng", "4.txt", "5", ".6.jpg", "Thumbs.db"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees=st.lists(st.tuples(st.lists(NAMES, max_size=3), FILES), max_size=8))
def test_whatever_is_not_read_is_told_or_hidden(tmp_path_factory, trees):
    """Each file is returned, hidden, a note, or spoken of."""
    root = folder_of(
        tmp_path_factory.mktemp("tree"),
        *("/".join([*folders, f"f{name}" if name[0] != "." else name]) for folders, name in trees),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            paths = set(load_image_folder(root)[0])
        except FileNotFoundError:
            return
    said = " ".join(str(warning.message) for warning in caught)
    for path in (path for path in root.rglob("*") if path.is_file() and str(path) not in paths):
        parts = path.relative_to(root).parts
        is_hidden = any(part.startswith(".") or part == "@eaDir" for part in parts) or path.suffix in (".txt", ".db")
        is_loose = len(parts) == 1 and path.suffix.lower() not in SUFFIXES
        assert is_hidden or is_loose or path.name in said or repr(path.suffix) in said
