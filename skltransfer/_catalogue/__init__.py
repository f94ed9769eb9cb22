"""Which networks there are, as data: recommended ones, families that can be cut, and the list of their names.

Promises to answer without torch, timm or torchvision being imported. Must not know how a network is built or run.
"""

from skltransfer._catalogue._listing import MODALITIES, list_backbones
from skltransfer._catalogue._recommended import RECOMMENDED, Recommended
from skltransfer._catalogue._torchvision_families import OwnHead

__all__ = ["MODALITIES", "RECOMMENDED", "OwnHead", "Recommended", "list_backbones"]
