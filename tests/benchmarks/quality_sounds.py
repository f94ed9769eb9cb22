"""Spoken digits, learnt end to end by a tiny network from random weights: no transfer, only that training works.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_sounds.py

Tiny Whisper and Wav2Vec2 configurations, saved to a folder and loaded through transformers; 480 clips to train on, 120
of takes that were not heard (10 and 11 of each speaker and digit) to test on. About ten minutes.
"""

import os
import pathlib
import tempfile
import time

import numpy as np
import transformers

from skltransfer import FineTunedClassifier


def clips() -> tuple[list[tuple[np.ndarray, int]], np.ndarray, np.ndarray]:
    archive = np.load(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / "spoken_digits.npz")
    samples, offset, rate = archive["samples"], archive["offset"], int(archive["rate"])
    X = [(samples[a:b].astype(np.float32) / 2**15, rate) for a, b in zip(offset[:-1], offset[1:], strict=True)]
    return X, archive["label"], archive["take"]


def whisper(folder: pathlib.Path) -> str:
    config = transformers.WhisperConfig(
        d_model=64,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=2,
        encoder_ffn_dim=128,
        decoder_ffn_dim=32,
        num_mel_bins=40,
        max_source_positions=50,
        dropout=0.1,
        **{f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "decoder_start")},
        vocab_size=16,
    )
    transformers.WhisperModel(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=40, chunk_length=1).save_pretrained(folder)
    return f"hf:{folder}"


def wav2vec2(folder: pathlib.Path) -> str:
    config = transformers.Wav2Vec2Config(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=(16, 32, 64, 64),
        conv_kernel=(20, 8, 4, 4),
        conv_stride=(10, 4, 4, 4),
        num_feat_extract_layers=4,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        vocab_size=16,
    )
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return f"hf:{folder}"


def main() -> None:
    X, y, take = clips()
    train, test = np.flatnonzero(take < 10), np.flatnonzero(take >= 10)
    for network in (whisper, wav2vec2):
        with tempfile.TemporaryDirectory() as folder:
            name = network(pathlib.Path(folder))
            for depth in (1.0, 0.0):
                model = FineTunedClassifier(
                    name,
                    freeze_depth=depth,
                    max_epochs=40,
                    batch_size=16,
                    learning_rate=2e-3,
                    backbone_lr_factor=1.0,
                    random_state=0,
                )
                start = time.perf_counter()
                model.fit([X[i] for i in train], y[train])
                score = model.score([X[i] for i in test], y[test])
                seconds = time.perf_counter() - start
                print(f"| {network.__name__} | {depth} | {score:.3f} | {seconds:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
