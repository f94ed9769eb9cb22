"""Recommended networks of the hub by their published proportions, with random weights: as fast as the real ones.

A folder holds a configuration and what prepares samples, with a vocabulary of a few words; no weights.
"""

import pathlib

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["a", "the", "film", "was", "and", "of", "it", "in", "that", "for", "with", "as", "but", "not", "is", "story"]
AMINO_ACIDS = "LAGVSERTIDPKQNFYMHWC"
ESM = ["<cls>", "<pad>", "<eos>", "<unk>", *AMINO_ACIDS, *"XBUZO.-", "<null_1>", "<mask>"]
VIT_B = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def save(name: str, folder: pathlib.Path) -> str:
    """Write the folder of a recommended network; what to call it instead."""
    repository, _, tower = name.removeprefix("hf:").partition(":")
    NETWORKS[repository](folder)
    return f"hf:{folder}" + (f":{tower}" if tower else "")


def _dinov2(folder, resize: int, crop: int, **proportions) -> None:
    transformers.Dinov2Config(image_size=518, patch_size=14, **proportions).save_pretrained(folder)
    sides = {"size": {"shortest_edge": resize}, "crop_size": {"height": crop, "width": crop}}
    transformers.BitImageProcessor(**sides, resample=3, **IMAGENET).save_pretrained(folder)


def _clip(folder) -> None:
    vision = VIT_B | {"image_size": 224, "patch_size": 32}
    transformers.CLIPConfig(vision_config=vision).save_pretrained(folder)
    transformers.CLIPImageProcessor().save_pretrained(folder)


def _texts(folder, config) -> None:
    config.save_pretrained(folder)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **names)
    wrapped.save_pretrained(folder)


def _whisper(folder) -> None:
    sizes = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 6), ("ffn_dim", 2048))}
    heads = {"encoder_attention_heads": 8, "decoder_attention_heads": 8}
    transformers.WhisperConfig(d_model=512, **sizes, **heads).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)


def _wav2vec2(folder) -> None:
    transformers.Wav2Vec2Config().save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)


def _esm(folder) -> None:
    transformers.EsmConfig(
        vocab_size=len(ESM),
        hidden_size=480,
        num_hidden_layers=12,
        num_attention_heads=20,
        intermediate_size=1920,
        max_position_embeddings=1026,
        position_embedding_type="rotary",
        pad_token_id=1,
        mask_token_id=32,
        token_dropout=True,
        emb_layer_norm_before=False,
    ).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(ESM))
    transformers.EsmTokenizer(str(folder / "vocab.txt"), model_max_length=1024).save_pretrained(folder)


NETWORKS = {
    "facebook/dinov2-small": lambda folder: _dinov2(folder, 256, 224, hidden_size=384, num_attention_heads=6),
    "microsoft/rad-dino": lambda folder: _dinov2(folder, 518, 518),
    "flax-community/clip-rsicd-v2": _clip,
    "sentence-transformers/all-mpnet-base-v2": lambda folder: _texts(
        folder, transformers.MPNetConfig(vocab_size=30527, max_position_embeddings=514, **VIT_B)
    ),
    "intfloat/multilingual-e5-small": lambda folder: _texts(
        folder,
        transformers.BertConfig(
            vocab_size=250037, hidden_size=384, num_hidden_layers=12, num_attention_heads=12, intermediate_size=1536
        ),
    ),
    "openai/whisper-base": _whisper,
    "facebook/wav2vec2-base": _wav2vec2,
    "facebook/esm2_t12_35M_UR50D": _esm,
}
