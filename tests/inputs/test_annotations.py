"""Files of annotations: what is read from COCO, Pascal VOC, YOLO and folders of masks, and what is refused by file."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from skltransfer import FineTunedDetector, FineTunedSegmenter, read_coco, read_mask_folder, read_voc, read_yolo

SIZES = {"1.jpg": (64, 48), "2.png": (40, 60), "3.jpg": (64, 48)}
BOXES = {
    "1.jpg": [([10.0, 12.0, 30.0, 40.0], "cat"), ([0.0, 0.0, 64.0, 48.0], "dog")],
    "2.png": [([5.0, 6.0, 9.0, 60.0], "cat")],
}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size in SIZES.items():
        Image.new("RGB", size, (90, 90, 90)).save(folder / name)
    (folder / "notes.txt").write_text("nothing")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def coco(folder, **changes):
    content = {
        "images": [{"id": 7 + i, "file_name": name} for i, name in enumerate(SIZES)],
        "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}],
        "annotations": [
            {"image_id": 7 + i, "category_id": {"cat": 1, "dog": 3}[label], "bbox": [x, y, x2 - x, y2 - y]}
            for i, name in enumerate(SIZES)
            for (x, y, x2, y2), label in BOXES.get(name, [])
        ],
    }
    path = folder / "train.json"
    path.write_text(json.dumps(content | changes))
    return path


def voc(folder, name, objects):
    made = "".join(
        f"<object><name>{label}</name><bndbox>"
        + "".join(
            f"<{edge}>{value}</{edge}>" for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        + "</bndbox></object>"
        for box, label in objects
    )
    path = folder / f"{pathlib.Path(name).stem}.xml"
    path.write_text(f"<annotation><filename>{name}</filename>{made}</annotation>")
    return path


def lines(name):
    width, height = SIZES[name]
    found = []
    for (x, y, x2, y2), label in BOXES.get(name, []):
        values = ((x + x2) / 2 / width, (y + y2) / 2 / height, (x2 - x) / width, (y2 - y) / height)
        found.append(" ".join(map(str, (["cat", "dog"].index(label), *values))))
    return "\n".join(found)


def assert_read(X, y, folder):
    assert [str(folder / name) for name in SIZES] == X
    for name, one in zip(SIZES, y, strict=True):
        np.testing.assert_allclose(
            one["boxes"], np.reshape([box for box, _ in BOXES.get(name, [])], (-1, 4)), atol=1e-9
        )
        assert one["labels"] == [label for _, label in BOXES.get(name, [])]


def test_all_formats_give_the_same_boxes(images, tmp_path):
    assert_read(*read_coco(coco(images)), images)
    assert_read(*read_coco(coco(tmp_path), images), images)
    annotations = tmp_path / "Annotations"
    annotations.mkdir()
    for name in SIZES:
        voc(annotations, name, BOXES.get(name, []))
    assert_read(*read_voc(annotations, images), images)
    labels = tmp_path / "labels"
    labels.mkdir()
    for name in BOXES:
        (labels / f"{pathlib.Path(name).stem}.txt").write_text(lines(name) + "\n\n")
    assert_read(*read_yolo(images, names=["cat", "dog"]), images)
    assert_read(*read_yolo(images, labels, names=["cat", "dog"]), images)
    assert read_yolo(images)[1][0]["labels"] == [0, 1]


def test_what_is_read_can_be_learnt(images):
    X, y = read_coco(coco(images))
    model = FineTunedDetector("toy:images", input_size=None, max_epochs=1, head_width=32, random_state=0).fit(X, y)
    assert model.classes_.tolist() == ["cat", "dog"]
    masks = images.parent / "masks"
    masks.mkdir()
    for name, (width, height) in SIZES.items():
        Image.fromarray(np.indices((height, width))[0].astype(np.uint8) // 20).save(masks / f"{name[0]}_m.png")
    paths, found = read_mask_folder(images, masks, mask_suffix="_m")
    assert [pathlib.Path(path).name for path in found] == ["1_m.png", "2_m.png", "3_m.png"]
    assert FineTunedSegmenter("toy:images", freeze_depth=1.0).fit(paths, found).classes_.tolist() == [0, 1, 2]


def test_the_folders_of_pascal_voc_are_found(images, tmp_path):
    annotations = tmp_path / "Annotations"
    annotations.mkdir()
    images.rename(tmp_path / "JPEGImages")
    for name in SIZES:
        voc(annotations, f"somewhere/{name}", BOXES.get(name, []))
    assert_read(*read_voc(annotations), tmp_path / "JPEGImages")
    voc(annotations, "1", BOXES["1.jpg"])  # a name without its suffix
    assert_read(*read_voc(annotations), tmp_path / "JPEGImages")


def test_crowds_are_left_out_and_boxes_stay_in_their_image(images):
    more = [
        {"image_id": 9, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 1},
        {"image_id": 9, "category_id": 1, "bbox": [60, 40, 30, 30]},
        {"image_id": 9, "category_id": 1, "bbox": [70, 1, 5, 5]},
        {"image_id": 9, "category_id": 1, "bbox": [9, 1, 0, 5]},
        {"image_id": 9, "category_id": 1, "bbox": [1, 1, 63.0005, 5]},
    ]
    with pytest.warns(UserWarning, match="1 boxes were cut off at the edges .*2 boxes were dropped"):
        _, y = read_coco(coco(images, annotations=more))
    assert y[2]["boxes"].tolist() == [[60, 40, 64, 48], [1, 1, 64, 6]]


def test_turned_photos_have_the_size_that_one_sees(images):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (48, 64)).save(images / "1.jpg", exif=exif)
    assert read_coco(coco(images))[1][0]["boxes"].max() == 64


def test_polygons_have_bounding_boxes(images):
    (images / "1.txt").write_text("0 0.25 0.25 0.5 0.75 0.125 0.5")
    assert read_yolo(images, images)[1][0]["boxes"].tolist() == [[8, 12, 32, 36]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_go_with_photos_that_are_turned_by_their_exif(images, orientation):
    """The same bright square is in the box, whichever way the photo is stored; and boxes are scaled with images."""
    raw = np.zeros((48, 64, 3), np.uint8)
    raw[5:25, 20:50] = 255
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(raw).save(images / "1.jpg", exif=exif, quality=100)
    raw_box = [{"image_id": 7, "category_id": 1, "bbox": [20, 5, 30, 20]}]
    sizes = [{"id": 7, "file_name": "1.jpg", "width": 64, "height": 48}]
    with Image.open(images / "1.jpg") as image:
        seen = np.asarray(ImageOps.exif_transpose(image))
    if orientation in (5, 6, 7, 8):
        with pytest.warns(UserWarning, match="1 boxes were moved to an image that was resized or turned"):
            _, (one,) = read_coco(coco(images, images=sizes, annotations=raw_box))
        x1, y1, x2, y2 = one["boxes"][0].astype(int)
        assert (seen[y1:y2, x1:x2] > 200).all()
        assert (seen > 200).all(-1).sum() == (x2 - x1) * (y2 - y1)
    sizes[0] |= {"width": 640, "height": 480}
    big = [{"image_id": 7, "category_id": 1, "bbox": [200, 50, 300, 200]}]
    if orientation == 1:
        with pytest.warns(UserWarning, match="1 boxes were moved"):
            assert read_coco(coco(images, images=sizes, annotations=big))[1][0]["boxes"].tolist() == [[20, 5, 50, 25]]
        sizes[0]["height"] = 640
        with pytest.raises(ValueError, match="is 64 pixels wide and 48 high, but was annotated at 640 x 640"):
            read_coco(coco(images, images=sizes, annotations=big))


def test_repeated_ids_and_names_are_refused(images):
    two = [{"id": 7, "file_name": "1.jpg"}, {"id": 7, "file_name": "2.png"}]
    with pytest.raises(ValueError, match="two file_name of id=7, '1.jpg' and '2.png'"):
        read_coco(coco(images, images=two))
    with pytest.raises(ValueError, match="two name of id=1, 'cat' and 'dog'"):
        read_coco(coco(images, categories=[{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]))
    voc(images, "2.png", []).rename(images / "1.xml")
    with pytest.raises(ValueError, match=r"1.xml' names '2.png', but .*1.jpg' has its own name"):
        read_voc(images)
    voc(images, "1.jpg", [])
    voc(images, "1.jpg", []).rename(images / "other.xml")
    voc(images, "1.jpg", [])
    with pytest.raises(ValueError, match=r"1.jpg' has several files of annotations"):
        read_voc(images)
    (images / "1.txt").write_text("3 0.5 0.5 0.1 0.1")
    assert read_yolo(images, images, names={3: "cat", 7: "dog"})[1][0]["labels"] == ["cat"]
    with pytest.raises(ValueError, match="has class 3, but names has the classes"):
        read_yolo(images, images, names={7: "dog"})
    with pytest.raises(ValueError, match="names must be a list of names or a dict"):
        read_yolo(images, images, names="cat")


def test_files_of_other_machines_are_read(images):
    """Marks of byte order, Windows' paths, capital suffixes, what macOS leaves, and names with line breaks."""
    path = coco(images, images=[{"id": 7, "file_name": "C:\\photos\\1.jpg"}], annotations=[])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_coco(path)[0] == [str(images / "1.jpg")]
    voc(images, "1.jpg", [(BOXES["1.jpg"][0][0], " cat\n")]).rename(images / "1.XML")
    (images / "._1.xml").write_bytes(b"macOS")
    assert read_voc(images)[1][0]["labels"] == ["cat"]
    (images / "1.XML").write_text("<annotation/>")
    assert read_voc(images)[0] == [str(images / "1.jpg")]
    (images / "1.txt").write_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.1 0.1 \r\n")
    assert len(read_yolo(images)[1][0]["boxes"]) == 1


def test_a_truncated_image_is_named(images):
    content = (images / "2.png").read_bytes()
    (images / "2.png").write_bytes(content[:20])
    with pytest.raises(ValueError, match="2.png' is no image that can be read"):
        read_coco(coco(images))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.5", "expected a class and the x, y"),
        ("cat 0.5 0.5 0.5 0.5", "expected numbers"),
        ("0.5 0.5 0.5 0.5 0.5", "expected a class"),
        ("-1 0.5 0.5 0.5 0.5", "expected a class"),
        ("0 nan 0.5 0.5 0.5", "expected a class"),
        ("0 100 20 30 40", "expected fractions of the image"),
        ("0 0.5 0.5 0.2 0.3 0.5 0.5 2", "expected a class"),
        ("0 0.5 0.5 0.2 0.3 0.5 0.5 2 0.4 0.4 2", "expected fractions of the image"),
        ("5 0.5 0.5 0.5 0.5", r"has class 5, but names has the classes \[0, 1\]"),
    ],
)
def test_lines_that_cannot_be_meant_are_named(images, line, message):
    (images / "2.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(ValueError, match=rf"Line 2 of .*2.txt.*{message}"):
        read_yolo(images, images, names=["cat", "dog"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}]}, "image_id=1, which no image has"),
        (
            {"annotations": [{"image_id": 7, "category_id": 9, "bbox": [1, 1, 2, 2]}]},
            "category_id=9, which no category",
        ),
        (
            {"annotations": [{"image_id": 7, "category_id": 1, "bbox": [1, 1, 2]}]},
            r"annotations\[0\] of .*four numbers",
        ),
        ({"annotations": [{"image_id": 7, "category_id": 1}]}, r"the box None; expected four numbers"),
        ({"images": [{"id": 1}]}, "no list 'images' of dicts with id, file_name"),
        ({"categories": {"1": "cat"}}, "no list 'categories' of dicts with id, name"),
    ],
)
def test_files_that_are_no_coco_are_refused(images, changes, message):
    with pytest.raises(ValueError, match=message):
        read_coco(coco(images, **changes))


def test_what_is_absent_or_damaged_is_named(images, tmp_path):
    (images / "train.json").write_text("{")
    with pytest.raises(ValueError, match="train.json' is no JSON file"):
        read_coco(images / "train.json")
    with pytest.raises(FileNotFoundError, match="holds no XML file"):
        read_voc(images)
    (images / "1.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match="1.xml' is no XML file"):
        read_voc(images)
    (images / "1.xml").write_text("<annotation><filename>1.jpg</filename><object/></annotation>")
    with pytest.raises(ValueError, match="object 0 of .*1.xml' has no element name"):
        read_voc(images)
    with pytest.raises(FileNotFoundError, match="9.png"):
        read_coco(coco(images, images=[{"id": 7, "file_name": "9.png"}], annotations=[]))
    with pytest.raises(FileNotFoundError, match="holds no text file of an image"):
        read_yolo(images, tmp_path)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        read_yolo(tmp_path / "absent")
    (images / "2.png").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="2.png' is no image"):
        read_coco(coco(images))


def test_images_and_masks_that_do_not_go_together_are_named(images, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    with pytest.raises(FileNotFoundError, match="masks' holds no image"):
        read_mask_folder(images, masks)
    for name in "12":
        Image.new("L", (4, 4)).save(masks / f"{name}.png")
    with pytest.raises(FileNotFoundError, match=r"3.jpg' has no mask.*Pass mask_suffix"):
        read_mask_folder(images, masks)
    for name in "34":
        Image.new("L", (4, 4)).save(masks / f"{name}.png")
    with pytest.raises(ValueError, match="4.png' is the mask of no image"):
        read_mask_folder(images, masks)
    (masks / "4.png").rename(masks / "3.bmp")
    with pytest.raises(ValueError, match="'3' names several images or masks"):
        read_mask_folder(images, masks)
    with pytest.raises(ValueError, match="lie in one folder. Pass mask_suffix"):
        read_mask_folder(images, images)
