"""What a pretrained network is: named stages, preprocessing, pooling, and a fingerprint.

Promises that a network cut in two computes what it computed whole. Must not know targets, training or scikit-learn.
"""

from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._bands import COLOURS
from skltransfer.backbones._causal_models import CausalHead, causal_head, written
from skltransfer.backbones._continuations import ContinuationReader
from skltransfer.backbones._description import BackboneDescription, StageDescription, describe_backbone
from skltransfer.backbones._freeze_depth import freeze_boundary, is_automatic, layer_boundaries, layer_boundary
from skltransfer.backbones._generation_options import checked_options
from skltransfer.backbones._geometry import Geometry
from skltransfer.backbones._layer_cut import PADDING_ID, mask_of
from skltransfer.backbones._pairs import refuse_unless_it_reads_pairs
from skltransfer.backbones._pooling import POOLINGS, Pooling
from skltransfer.backbones._preprocessing import RESIZINGS
from skltransfer.backbones._random import reseed, seeded
from skltransfer.backbones._registry import (
    adapted_backbone,
    load_backbone,
    outlined_backbone,
    own_head,
    portable_state,
    reload_backbone,
    shared_space,
    source_language_head,
    source_network,
    text_tower,
    with_current_options,
)
from skltransfer.backbones._sequence_models import IGNORED, DecoderModel, decoder_model, span_head
from skltransfer.backbones._speech_models import (
    DECODER,
    CtcHead,
    CtcTexts,
    ctc_head,
    frame_dropout,
    language_code,
    n_frames,
    way_to_write,
    weights_without_ctc_head,
)
from skltransfer.backbones._target_texts import TargetTexts
from skltransfer.backbones._weights import AdaptedWeights, fingerprint
from skltransfer.backbones._windows import LONG_SAMPLES
