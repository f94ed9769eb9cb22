"""How the networks of keras.applications are cut and fed, by their name; data, without Keras or torch.

NASNet is not among them: each of its cells reads the two cells before it, so that two tensors are always needed.
"""

from typing import NamedTuple


class Application(NamedTuple):
    """A network of keras.applications.

    ``ends`` matches the names of the layers that end a stage each; the network's last layer ends the last one. ``mode``
    is the scale of its inputs: ``"raw"`` (0 to 255), ``"tf"`` (-1 to 1), ``"torch"`` or ``"caffe"``, as in its
    ``preprocess_input``. ``side`` is that of the images of its official weights, in pixels.
    """

    ends: str
    mode: str
    side: int = 224


CONVNEXT = Application(r"\w+_stem|add(_\d+)?", "raw")
DENSENET = Application(r"pool\d(_pool)?", "torch")
EFFICIENTNET = Application(r"stem_activation|block\d[a-z]_(add|project_bn)", "raw")
EFFICIENTNET_V2 = Application(
    r"stem_activation|block1[a-z]_(add|project_activation)|block[2-9][a-z]_(add|project_bn)", "raw"
)
INCEPTION = Application(r"max_pooling2d(_1)?|mixed\d+|mixed_\w+|block\d+_\d+_ac", "tf", 299)
MOBILENET_V2 = Application(r"Conv1_relu|expanded_conv_project_BN|block_\d+_(add|project_BN)", "tf")
MOBILENET_V3 = Application(r"expanded_conv(_\d+)?_(add|project_bn)", "raw")
RESNET = Application(r"pool1_pool|conv\d_block\d+_out", "caffe")
VGG = Application(r"block\d_pool", "caffe")
EFFICIENTNET_SIDES = {"B0": 224, "B1": 240, "B2": 260, "B3": 300, "B4": 380, "B5": 456, "B6": 528, "B7": 600}
EFFICIENTNET_V2_SIDES = {"B0": 224, "B1": 240, "B2": 260, "B3": 300, "S": 384, "M": 480, "L": 480}
APPLICATIONS = {
    **{f"ConvNeXt{size}": CONVNEXT for size in ("Base", "Large", "Small", "Tiny", "XLarge")},
    **{f"DenseNet{depth}": DENSENET for depth in (121, 169, 201)},
    **{f"EfficientNet{size}": EFFICIENTNET._replace(side=side) for size, side in EFFICIENTNET_SIDES.items()},
    **{f"EfficientNetV2{size}": EFFICIENTNET_V2._replace(side=side) for size, side in EFFICIENTNET_V2_SIDES.items()},
    "InceptionResNetV2": INCEPTION,
    "InceptionV3": INCEPTION,
    "MobileNet": Application(r"conv1_relu|conv_pw_\d+_relu", "tf"),
    "MobileNetV2": MOBILENET_V2,
    "MobileNetV3Large": MOBILENET_V3,
    "MobileNetV3Small": MOBILENET_V3,
    **{f"ResNet{depth}": RESNET for depth in (50, 101, 152)},
    **{f"ResNet{depth}V2": RESNET._replace(mode="tf") for depth in (50, 101, 152)},
    "VGG16": VGG,
    "VGG19": VGG,
    "Xception": Application(r"block1_conv2_act|add(_\d+)?", "tf", 299),
}
