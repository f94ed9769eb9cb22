"""A folder of images -> paths and labels.

Promises that no folder and no image is left out without a word, except hidden files and what systems and NAS boxes
put beside users' files. No image is opened. Must not know how images are read.
"""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
NEWER = (".jp2", ".j2k", ".avif", ".heic", ".heif", ".hif")
SUFFIXES = (*JPEG, ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", *NEWER)
OF_SYSTEMS = {
    "#recycle",
    "$recycle.bin",
    "@eadir",
    "@recycle",
    "@tmp",
    "__macosx",
    "__pycache__",
    "desktop.ini",
    "ehthumbs.db",
    "icon\r",
    "lost+found",
    "system volume information",
    "thumbs.db",
}
OF_NOTES = {
    ".csv",
    ".db",
    ".html",
    ".ini",
    ".json",
    ".jsonl",
    ".log",
    ".md",
    ".pdf",
    ".py",
    ".toml",
    ".tsv",
    ".txt",
    ".xml",
    ".yaml",
    ".yml",
}  # suffixes of files about pictures, which nobody takes for pictures
NOTES = {"copying", "licence", "license", "notice", "readme"}
SPLITS = {"dev", "eval", "test", "testing", "train", "training", "val", "valid", "validation"}


class _Class(NamedTuple):
    """Content of one class folder."""

    name: str
    pictures: list[str]
    unknown: Counter  # of suffixes, neither of pictures nor of notes
    links: list[str]  # to folders
    has_folders: bool


def load_image_folder(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """List the images and labels of a folder that contains one folder of images per class.

    The images are not opened: estimators read the returned paths.

    Parameters
    ----------
    path : path-like
        Folder with images at ``path/<class>/**/<image>``. Images are files that end in ``.jpg``, ``.jpeg``, ``.jpe``,
        ``.jfif``, ``.png``, ``.webp``, ``.gif``, ``.bmp``, ``.tif``, ``.tiff``, ``.ppm``, ``.pgm``, ``.pbm``, ``.jp2``,
        ``.j2k``, ``.avif``, ``.heic``, ``.heif`` or ``.hif``. Hidden files and folders are skipped at any depth, and so
        are those of operating systems and network storage, such as ``@eaDir`` and ``__MACOSX``.

    Returns
    -------
    paths : ndarray of str, shape (n_samples,)
        Sorted paths of the images, in the same order on each machine.
    labels : ndarray of str, shape (n_samples,)
        Names of the class folders.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, contains no image, or a class folder contains only files of unknown suffixes.
    NotADirectoryError
        If ``path`` is a file.

    Warns
    -----
    UserWarning
        If something is left out (files of unknown suffixes, class folders without an image, links to folders, images
        next to the class folders), or if the class folders look like splits (``train``, ``val``) or like the folder
        that contains the classes.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from skltransfer import load_image_folder
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("ants", "bees"):
    ...     (folder / name).mkdir()
    ...     Image.new("RGB", (8, 8)).save(folder / name / "1.png")
    >>> paths, labels = load_image_folder(folder)
    >>> labels.tolist()
    ['ants', 'bees']
    """
    folder = _checked(Path(path))
    entries = sorted(entry for entry in folder.iterdir() if not is_skipped(entry.name))
    classes = [_read(entry) for entry in entries if entry.is_dir() and not _leads_up(entry)]
    links = [str(entry) for entry in entries if _leads_up(entry)] + sum((one.links for one in classes), [])
    loose = [entry.name for entry in entries if is_picture(entry.name) and not entry.is_dir()]
    _refuse_unreadable_classes(classes)
    found = [(picture, one.name) for one in classes for picture in one.pictures]
    if not found:
        raise FileNotFoundError(_nothing(folder, classes, loose))
    _tell_what_is_left_out(folder, classes, loose, links)
    _tell_of_another_level(folder, [one for one in classes if one.pictures])
    paths, labels = zip(*found, strict=True)
    return np.array(paths), np.array(labels)


def _checked(folder: Path) -> Path:
    if folder.is_dir():
        return folder
    if folder.exists():
        raise NotADirectoryError(
            f"{str(folder)!r} is a file; expected a folder with a folder of images per class. Pass the folder, or "
            "unpack the archive first."
        )
    raise FileNotFoundError(f"No folder {str(folder)!r}; expected one with a folder of images per class.")


def is_skipped(name: str) -> bool:
    return name.startswith(".") or name.lower() in OF_SYSTEMS


def is_picture(name: str) -> bool:
    return _suffix(name) in SUFFIXES


def _is_note(name: str) -> bool:
    return _suffix(name) in OF_NOTES or os.path.splitext(name)[0].lower() in NOTES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _leads_up(entry: Path) -> bool:
    """True if a link leads to a folder that it lies in."""
    return entry.is_symlink() and entry.is_dir() and entry.parent.resolve().is_relative_to(entry.resolve())


def _read(folder: Path) -> _Class:
    """Files of a class folder at any depth; links in it could lead round in a circle, or to another class."""
    one = _Class(folder.name, [], Counter(), [], has_folders=False)
    for place, inner, names in os.walk(folder, onerror=_raised):
        inner[:] = sorted(name for name in inner if not is_skipped(name))
        one.links.extend(path for name in inner if os.path.islink(path := os.path.join(place, name)))
        kept = [name for name in names if not is_skipped(name)]
        one.pictures.extend(os.path.join(place, name) for name in kept if is_picture(name))
        one.unknown.update(_suffix(name) for name in kept if not is_picture(name) and not _is_note(name))
        one = one._replace(has_folders=one.has_folders or bool(inner))
    one.pictures.sort(key=Path)
    return one


def _raised(error: OSError) -> None:
    raise error


def _refuse_unreadable_classes(classes: Sequence[_Class]) -> None:
    unreadable = [one for one in classes if one.unknown and not one.pictures]
    if unreadable:
        suffixes = sum((one.unknown for one in unreadable), Counter())
        raise FileNotFoundError(
            f"No file in {_listed([one.name for one in unreadable])} has a suffix of an image that can be read: found "
            f"{_listed(list(suffixes))}, expected one of {', '.join(SUFFIXES)}. Convert these files, or move the "
            "folders elsewhere."
        )


def _nothing(folder: Path, classes: Sequence[_Class], loose: Sequence[str]) -> str:
    if loose and not classes:
        came = f"images are directly inside it, such as {loose[0]!r}"
    else:
        came = f"its folders are {_listed([one.name for one in classes])}" if classes else "it holds no folder"
    return f"No images in {str(folder)!r} that have a class: {came}. Expected {folder.name}/<class>/<image>."


def _tell_what_is_left_out(folder: Path, classes: Sequence[_Class], loose: Sequence[str], links: Sequence[str]) -> None:
    unknown = sum((one.unknown for one in classes), Counter())
    if unknown:
        _warn(
            f"Files with suffixes that are not those of images are left out of {str(folder)!r}: "
            f"{', '.join(f'{n} of {suffix!r}' for suffix, n in unknown.most_common(5))}. Convert them to one of "
            f"{', '.join(SUFFIXES)}, if they are images."
        )
    empty = [one.name for one in classes if not one.pictures]
    if empty:
        _warn(f"These folders in {str(folder)!r} hold no image, so they give no class: {_listed(empty)}.")
    if loose:
        _warn(
            f"Images that lie in {str(folder)!r} beside the class folders are left out: {_listed(loose)}. Move each "
            "into the folder of its class."
        )
    if links:
        _warn(f"Links to folders inside a class are not followed: {_listed(links)}. Copy their images instead.")


def _tell_of_another_level(folder: Path, classes: Sequence[_Class]) -> None:
    """Classes that look like splits, or like the one folder that an archive was unpacked into."""
    are_splits = all(one.name.lower() in SPLITS for one in classes)
    if not any(one.has_folders for one in classes) or not (are_splits or len(classes) == 1):
        return
    wanted = " or ".join(f"load_image_folder({str(folder / one.name)!r})" for one in classes[:3])
    what = "look like splits of the data" if are_splits else "hold other folders, and are one class only"
    _warn(
        f"The folders in {str(folder)!r} {what}: {_listed([one.name for one in classes])}. If classes are the folders "
        f"inside, call {wanted}."
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)
