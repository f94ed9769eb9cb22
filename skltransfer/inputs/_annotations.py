"""Files of annotations -> paths of images, and boxes or masks: COCO, Pascal VOC, YOLO, folders of masks.

What is settled here: boxes come in pixels (x1, y1, x2, y2); edges beyond the image are cut off, and boxes of which
nothing is left are dropped, with one warning; what cannot be understood is refused with its file. No image is decoded.
"""

import glob
import json
import math
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import UnidentifiedImageError

from skltransfer.inputs._image_folder import SUFFIXES, is_picture, is_skipped
from skltransfer.inputs._images import ORIENTATION, open_image, upright_size

Target = dict[str, Any]
Size = tuple[Any, Any]
TURNED = (5, 6, 7, 8)  # orientations in EXIF that exchange width and height
LARGEST_FRACTION = 1.01


class _Object(NamedTuple):
    """One box with its label, as its file has it."""

    box: Sequence[float]
    label: Any


def read_coco(path: str | os.PathLike, image_folder: str | os.PathLike | None = None) -> tuple[list[str], list[Target]]:
    """Read boxes and labels from a JSON file in the format of COCO.

    Parameters
    ----------
    path : path-like
        JSON file with ``images``, ``annotations`` and ``categories``.
    image_folder : path-like, default=None
        Folder of the images. None takes the folder of ``path``.

    Returns
    -------
    X : list of str
        Paths of the images, in the order of the file.
    y : list of dict
        Objects: a dict for each image, of ``"boxes"``, an ndarray of shape (m, 4) with corners (x1, y1, x2, y2) in
        pixels, and ``"labels"``, a list of m names of categories. Images without annotations have none. Annotations of
        crowds (``iscrowd``) are left out.

    Raises
    ------
    ValueError
        If the file is no such JSON, an annotation names an unknown image or category, two rows of one id differ, or
        an image has other proportions than the file says.
    FileNotFoundError
        If the file or an image does not exist.

    Warns
    -----
    UserWarning
        If boxes are cut off at the edges of their image, dropped because nothing is left of them, or moved because the
        image was resized or turned after it was annotated.

    Examples
    --------
    >>> import json, pathlib, tempfile
    >>> from PIL import Image
    >>> from skltransfer import read_coco
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> Image.new("RGB", (64, 48)).save(folder / "1.png")
    >>> content = {
    ...     "images": [{"id": 7, "file_name": "1.png", "width": 64, "height": 48}],
    ...     "categories": [{"id": 1, "name": "cat"}],
    ...     "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 30]}],
    ... }
    >>> _ = (folder / "train.json").write_text(json.dumps(content))
    >>> X, y = read_coco(folder / "train.json")
    >>> y[0]["boxes"].tolist(), y[0]["labels"]
    ([[10.0, 10.0, 30.0, 40.0]], ['cat'])
    """
    path, content = Path(path), _json(Path(path))
    folder = path.parent if image_folder is None else Path(image_folder)
    names = _by_id(content["categories"], "name", path)
    images = _by_id(content["images"], "file_name", path)
    sizes = {one["id"]: (one.get("width"), one.get("height")) for one in content["images"]}
    objects: dict[Any, list[_Object]] = defaultdict(list)
    for number, one in enumerate(content["annotations"]):
        where = f"annotations[{number}] of {str(path)!r}"
        if one.get("iscrowd"):
            continue
        if one.get("image_id") not in images:
            raise ValueError(f"{where} belongs to image_id={one.get('image_id')!r}, which no image has.")
        if one.get("category_id") not in names:
            raise ValueError(f"{where} has category_id={one.get('category_id')!r}, which no category has.")
        x, y, width, height = _four(one.get("bbox"), where)
        objects[one["image_id"]].append(_Object((x, y, x + width, y + height), names[one["category_id"]]))
    return _in_images(
        (_file_in(folder, name), objects[key], sizes[key], where)
        for key, name in images.items()
        for where in [f"image_id={key!r} of {str(path)!r}"]
    )


def read_voc(
    annotation_folder: str | os.PathLike, image_folder: str | os.PathLike | None = None
) -> tuple[list[str], list[Target]]:
    """Read boxes and labels from a folder of XML files in the format of Pascal VOC.

    Parameters
    ----------
    annotation_folder : path-like
        Folder of XML files, one per image.
    image_folder : path-like, default=None
        Folder of the images. None takes the folder ``JPEGImages`` beside ``annotation_folder`` if there is one, and
        else ``annotation_folder`` itself.

    Returns
    -------
    X : list of str
        Paths of the images, sorted by the names of the XML files.
    y : list of dict
        Objects: a dict for each image, of ``"boxes"``, an ndarray of shape (m, 4) with (xmin, ymin, xmax, ymax) as the
        file has them, and ``"labels"``, a list of m names. Objects that are marked as difficult are included.

    Raises
    ------
    ValueError
        If a file is no XML of this form, names another image than the one that has its name, or says another size; the
        message names it.
    FileNotFoundError
        If a folder or an image does not exist, or the folder holds no XML file.

    Warns
    -----
    UserWarning
        If boxes are cut off at the edges of their image, dropped because nothing is left of them, or moved because the
        image was resized or turned after it was annotated.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from skltransfer import read_voc
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> Image.new("RGB", (64, 48)).save(folder / "1.png")
    >>> box = "<xmin>10</xmin><ymin>10</ymin><xmax>30</xmax><ymax>40</ymax>"
    >>> _ = (folder / "1.xml").write_text(
    ...     "<annotation><filename>1.png</filename>"
    ...     f"<object><name>cat</name><bndbox>{box}</bndbox></object></annotation>"
    ... )
    >>> X, y = read_voc(folder)
    >>> y[0]["boxes"].tolist(), y[0]["labels"]
    ([[10.0, 10.0, 30.0, 40.0]], ['cat'])
    """
    folder = Path(annotation_folder)
    beside = folder.parent / "JPEGImages"
    images = Path(image_folder) if image_folder is not None else beside if beside.is_dir() else folder
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() == ".xml" and not is_skipped(file.name))
    if not files:
        raise FileNotFoundError(f"{str(folder)!r} holds no XML file. Pass the folder of the annotations.")
    rows = [
        (_named(images, name, file), objects, size, repr(str(file)))
        for file in files
        for name, objects, size in [_of_xml(file)]
    ]
    _refuse_repeated([path for path, *_ in rows])
    return _in_images(iter(rows))


def read_yolo(
    image_folder: str | os.PathLike,
    label_folder: str | os.PathLike | None = None,
    *,
    names: Sequence[str] | Mapping[int, str] | None = None,
) -> tuple[list[str], list[Target]]:
    """Read boxes and labels from text files in the format of YOLO.

    Each line of a text file holds the number of a class, and the center, width and height of a box in fractions of the
    image; or, instead of the box, the corners of a polygon, of which the bounding box is taken. Remove key points
    (poses) after a box first.

    Parameters
    ----------
    image_folder : path-like
        Folder of the images.
    label_folder : path-like, default=None
        Folder of the text files, each named like its image. None takes the folder whose path has ``labels`` in place of
        the last ``images`` if there is one, or else ``image_folder`` itself. An image without a text file has no
        objects.
    names : sequence of str or mapping of int to str, default=None
        Names of the classes, in the order of their numbers or by number. None keeps the numbers as labels.

    Returns
    -------
    X : list of str
        Sorted paths of the images.
    y : list of dict
        Objects: a dict for each image, of ``"boxes"``, an ndarray of shape (m, 4) with corners (x1, y1, x2, y2) in
        pixels, and ``"labels"``, a list of m names or numbers.

    Raises
    ------
    ValueError
        If a line is of another form, or the number of a class has no name; the message names file and line.
    FileNotFoundError
        If a folder does not exist, there are no images, or no text file belongs to an image.

    Warns
    -----
    UserWarning
        If boxes are cut off at the edges of their image, or dropped because nothing is left of them.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from skltransfer import read_yolo
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> Image.new("RGB", (64, 48)).save(folder / "1.png")
    >>> _ = (folder / "1.txt").write_text("0 0.5 0.5 0.25 0.5")
    >>> X, y = read_yolo(folder, names=["cat"])
    >>> y[0]["boxes"].tolist(), y[0]["labels"]
    ([[24.0, 12.0, 40.0, 36.0]], ['cat'])
    """
    if isinstance(names, str):
        raise ValueError(f"names must be a list of names or a dict of numbers and names; got {names!r}.")
    folder = Path(image_folder)
    labels = _labels_beside(folder) if label_folder is None else Path(label_folder)
    images = _images(folder)
    files = [labels / f"{image.stem}.txt" for image in images]
    if not any(file.exists() for file in files):
        raise FileNotFoundError(
            f"{str(labels)!r} holds no text file of an image in {str(folder)!r}, such as {files[0]}."
        )
    return _in_images(
        (image, _of_lines(file, _size(image)[0], names) if file.exists() else [], (None, None), "")
        for image, file in zip(images, files, strict=True)
    )


def read_mask_folder(
    image_folder: str | os.PathLike, mask_folder: str | os.PathLike, *, mask_suffix: str = ""
) -> tuple[list[str], list[str]]:
    """Pair the images of a folder with the masks of another one, by the names of the files.

    Parameters
    ----------
    image_folder : path-like
        Folder of the images; folders in it are not searched.
    mask_folder : path-like
        Folder of the masks, such as PNG files. It may be the same folder if the masks have a suffix.
    mask_suffix : str, default=""
        End of the name of a mask, after the name of its image, such as ``"_mask"``.

    Returns
    -------
    X : list of str
        Sorted paths of the images.
    y : list of str
        Path of the mask of each image, for :class:`FineTunedSegmenter`.

    Raises
    ------
    FileNotFoundError
        If a folder does not exist or holds no image, or an image has no mask.
    ValueError
        If an image has several masks, or a mask has no image.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from skltransfer import read_mask_folder
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> Image.new("RGB", (8, 8)).save(folder / "1.png")
    >>> Image.new("L", (8, 8)).save(folder / "1_mask.png")
    >>> X, y = read_mask_folder(folder, folder, mask_suffix="_mask")
    >>> [pathlib.Path(path).name for path in X + y]
    ['1.png', '1_mask.png']
    """
    folder, masks = Path(image_folder), Path(mask_folder)
    are_together = folder.resolve() == masks.resolve()
    if are_together and not mask_suffix:
        raise ValueError("Images and masks lie in one folder. Pass mask_suffix, such as '_mask', to tell them apart.")
    found = defaultdict(list)
    for mask in _images(masks):
        if mask.stem.endswith(mask_suffix):
            found[mask.stem.removesuffix(mask_suffix) if mask_suffix else mask.stem].append(mask)
    images = [image for image in _images(folder) if not (are_together and image.stem.endswith(mask_suffix))]
    names = Counter(image.stem for image in images)
    for image in images:
        if not found[image.stem]:
            raise FileNotFoundError(
                f"{str(image)!r} has no mask: {str(masks)!r} holds no image {image.stem + mask_suffix!r}. Pass "
                "mask_suffix if the names of masks end in something."
            )
        if len(found[image.stem]) > 1 or names[image.stem] > 1:
            raise ValueError(f"{image.stem!r} names several images or masks: {sorted(map(str, found[image.stem]))}.")
    alone = sorted(found.keys() - set(names))
    if alone:
        raise ValueError(f"{str(found[alone[0]][0])!r} is the mask of no image in {str(folder)!r}.")
    return [str(image) for image in images], [str(found[image.stem][0]) for image in images]


def _json(path: Path) -> dict[str, list[dict]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no JSON file ({error}).") from None
    needed = {"images": ("id", "file_name"), "annotations": (), "categories": ("id", "name")}
    for part, keys in needed.items():
        rows = content.get(part) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(one, dict) and set(keys) <= one.keys() for one in rows):
            raise ValueError(f"{str(path)!r} has no list {part!r} of dicts{' with ' if keys else ''}{', '.join(keys)}.")
    return content


def _of_xml(path: Path) -> tuple[str | None, list[_Object], Size]:
    """Name of the image, its objects, and its size."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{str(path)!r} is no XML file ({error}).") from None
    objects = []
    for number, one in enumerate(root.iter("object")):
        where, label = f"object {number} of {str(path)!r}", (one.findtext("name") or "").strip()
        if not label:
            raise ValueError(f"{where} has no element name.")
        corners = [one.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
        objects.append(_Object(_four(corners, where), label))
    width, height = (root.findtext(f"size/{edge}") for edge in ("width", "height"))
    return (root.findtext("filename") or "").strip() or None, objects, (width, height)


def _named(folder: Path, name: str | None, file: Path) -> Path:
    """The image that an XML file names, or else the one that has its name."""
    alike = [one for one in folder.glob(f"{glob.escape(file.stem)}.*") if is_picture(one.name)]
    named = alike[0] if name is None and alike else _file_in(folder, name or f"{file.stem}.jpg")
    if not named.exists() and alike:
        return alike[0]
    if alike and named not in alike:
        raise ValueError(
            f"{str(file)!r} names {name!r}, but {str(alike[0])!r} has its own name. Correct filename in the XML "
            "file, or rename it."
        )
    return named


def _file_in(folder: Path, name: str) -> Path:
    """The file of this name in a folder, also if the name has folders of another machine."""
    path = folder / name.replace("\\", "/")
    beside = folder / path.name
    return beside if beside.exists() and not path.exists() else path


def _by_id(rows: Sequence[dict], key: str, path: Path) -> dict[Any, Any]:
    """The values of each id.

    Raises
    ------
    ValueError
        If two rows of one id differ.
    """
    found: dict[Any, Any] = {}
    for row in rows:
        if found.setdefault(row["id"], row[key]) != row[key]:
            raise ValueError(
                f"{str(path)!r} has two {key} of id={row['id']!r}, {found[row['id']]!r} and {row[key]!r}. Number them "
                "anew."
            )
    return found


def _refuse_repeated(paths: Sequence[Path]) -> None:
    repeated = [path for path, count in Counter(paths).items() if count > 1]
    if repeated:
        raise ValueError(f"{str(repeated[0])!r} has several files of annotations.")


def _of_lines(path: Path, size: tuple[int, int], names: Sequence[str] | Mapping[int, str] | None) -> list[_Object]:
    """The objects of a text file."""
    objects, known = [], names if names is None or isinstance(names, Mapping) else dict(enumerate(names))
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"Line {number} of {str(path)!r}"
        try:
            label, *values = (float(cell) for cell in line.split())
        except ValueError:
            raise ValueError(f"{where} is {line!r:.60}; expected numbers.") from None
        is_box, is_polygon = len(values) == 4, len(values) >= 6 and len(values) % 2 == 0
        if not (is_box or is_polygon) or not math.isfinite(sum(values)) or label != int(label) or label < 0:
            raise ValueError(
                f"{where} is {line!r:.60}; expected a class and the x, y, width and height of a box, or a polygon."
            )
        if max(map(abs, values)) > LARGEST_FRACTION:
            raise ValueError(f"{where} is {line!r:.60}; expected fractions of the image, between 0 and 1.")
        if known is not None and int(label) not in known:
            raise ValueError(f"{where} has class {int(label)}, but names has the classes {sorted(known)[:10]}.")
        pairs = np.reshape(values, (-1, 2)) * size
        low, high = (pairs[0] - pairs[1] / 2, pairs[0] + pairs[1] / 2) if is_box else (pairs.min(0), pairs.max(0))
        objects.append(_Object([*low, *high], int(label) if known is None else known[int(label)]))
    return objects


def _four(values: Any, where: str) -> list[float]:
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError):
        found = []
    if len(found) != 4 or not all(map(math.isfinite, found)):
        raise ValueError(f"{where} has the box {values!r:.80}; expected four numbers.")
    return found


def _in_images(rows: Iterator[tuple[Path, list[_Object], Size, str]]) -> tuple[list[str], list[Target]]:
    """Paths, and boxes that lie in their images; tells how many were changed.

    Parameters
    ----------
    rows : iterator of (path, objects, size, where)
        Image, its objects, the size that the file of annotations gives it, if any, and words for messages.
    """
    X, y = [], []
    changed = {
        "moved to an image that was resized or turned": 0,
        "cut off at the edges of the image": 0,
        "dropped: nothing of them is in the image": 0,
    }
    for path, objects, declared, where in rows:
        (width, height), orientation = _size(path)
        given = np.array([one.box for one in objects], dtype=float).reshape(-1, 4)
        boxes = _moved(given, _declared(declared), (width, height), orientation, f"{where} ({str(path)!r})")
        inside = np.clip(boxes, 0, [width, height, width, height])
        has_area = (inside[:, 2:] > inside[:, :2]).all(axis=1)
        is_cut = (np.abs(inside - boxes) > 1e-3).any(axis=1) & has_area
        is_moved = (boxes != given).any(axis=1)
        for what, which in zip(changed, (is_moved, is_cut, ~has_area), strict=True):
            changed[what] += int(which.sum())
        X.append(str(path))
        labels = [one.label for one, kept in zip(objects, has_area, strict=True) if kept]
        y.append({"boxes": inside[has_area], "labels": labels})
    told = [f"{count} boxes were {what}" for what, count in changed.items() if count]
    if told:
        warnings.warn("; ".join(told) + ".", stacklevel=3)
    return X, y


def _declared(size: Size) -> tuple[float, float] | None:
    """Width and height as a file of annotations has them; None if it does not say."""
    try:
        width, height = (float(value) for value in size)
    except (TypeError, ValueError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _moved(
    boxes: np.ndarray, declared: tuple[float, float] | None, size: tuple[int, int], orientation: int, where: str
) -> np.ndarray:
    """Boxes of an image of the declared size, in the image as one sees it: it may have been resized, or be turned."""
    if declared is None or declared == size:
        return boxes
    width, height = declared
    if orientation in TURNED and (height, width) == size:
        x, y = boxes[:, [0, 2]], boxes[:, [1, 3]]
        new_x, new_y = {5: (y, x), 6: (height - y, x), 7: (height - y, width - x), 8: (y, width - x)}[orientation]
        (x1, x2), (y1, y2) = np.sort(new_x, axis=1).T, np.sort(new_y, axis=1).T
        return np.column_stack([x1, y1, x2, y2])
    factors = np.array(size) / declared
    if max(abs(width * factors[1] - size[0]), abs(height * factors[0] - size[1])) > 1.5:
        raise ValueError(
            f"{where} is {size[0]} pixels wide and {size[1]} high, but was annotated at {width:g} x {height:g}. Pass "
            "the images that were annotated."
        )
    return boxes * np.tile(factors, 2)


def _size(path: Path) -> tuple[tuple[int, int], int]:
    """Width and height of an image as one sees it, from its header, and its orientation."""
    content = path.read_bytes()
    try:
        with open_image(content) as image:
            size = upright_size(image, content)
            return size, (image.getexif().get(ORIENTATION, 1) if size != image.size else 1)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{str(path)!r} is no image that can be read ({error}).") from None


def _images(folder: Path) -> list[Path]:
    """Paths of the images of a folder, sorted."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{str(folder)!r} is no folder.")
    found = sorted(path for path in folder.iterdir() if is_picture(path.name) and not is_skipped(path.name))
    if not found:
        raise FileNotFoundError(f"{str(folder)!r} holds no image: no file that ends in {', '.join(SUFFIXES)}.")
    return found


def _labels_beside(folder: Path) -> Path:
    parts = list(folder.absolute().parts)
    if "images" not in parts:
        return folder
    last = len(parts) - 1 - parts[::-1].index("images")
    beside = Path(*parts[:last], "labels", *parts[last + 1 :])
    return beside if beside.is_dir() else folder
