"""Protein sequences: an ESM-2 of tiny size with ESM's own alphabet, through transformers' own tokenizer."""

import csv
import gzip
import pickle

import numpy as np
import pytest
import torch
import transformers

from skltransfer import ActivationStore, FineTunedClassifier, PretrainedFeatureExtractor, load_backbone
from skltransfer.backbones import seeded

ALPHABET = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]
PEPTIDES = [
    "GIGKFLHSAKKFGKAFVGEIMNS",
    "KWKLFKKIEKVGQNIRDGIIKAGPAVAVVGQATQIAK",
    "AAA",
    "M",
    "MKTAYIAKQRQISFVKSHFSRQ" * 5,
]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("esm2")
    (folder / "vocab.txt").write_text("\n".join(ALPHABET))
    transformers.EsmTokenizer(str(folder / "vocab.txt"), model_max_length=200).save_pretrained(folder)
    config = transformers.EsmConfig(
        vocab_size=len(ALPHABET),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=202,
        position_embedding_type="rotary",
        pad_token_id=1,
        mask_token_id=32,
        token_dropout=True,
        emb_layer_norm_before=False,
    )
    with seeded(7):
        transformers.EsmModel(config, add_pooling_layer=False).save_pretrained(folder)
    return load_backbone(f"hf:{folder}")


def test_each_amino_acid_is_one_token(backbone):
    for peptide in PEPTIDES:
        ids = backbone.preprocessing(peptide).tolist()
        assert [ALPHABET[i] for i in ids] == ["<cls>", *peptide, "<eos>"][: backbone.preprocessing.max_length]


def test_features_are_the_librarys_own(backbone):
    network = backbone.library_network
    extractor = PretrainedFeatureExtractor(backbone, dtype="float32", cache=None)
    features = extractor.transform(PEPTIDES)
    for peptide, row in zip(PEPTIDES, features, strict=True):
        ids = backbone.preprocessing(peptide)[None]
        with torch.inference_mode():
            hidden = network(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        np.testing.assert_allclose(row, hidden[0].mean(0).numpy(), atol=1e-5)
    np.testing.assert_array_equal(extractor.set_params(cache=ActivationStore()).transform(PEPTIDES), features)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(extractor)).transform(PEPTIDES[::-1]), features[::-1])


@pytest.mark.parametrize("boundary", [0, 1, 2, 3])
def test_a_step_at_each_depth_moves_what_it_should(backbone, boundary):
    model = FineTunedClassifier(
        backbone,
        freeze_depth=boundary - backbone.n_stages if boundary else 0.0,
        max_epochs=1,
        lr_schedule="constant",
        random_state=0,
    )
    model.fit(PEPTIDES[:4], [0, 1, 0, 1])
    moved = {key.removeprefix("suffix.") for key in model._network_.changed if key.startswith("suffix.")}
    trained = {name for stage in range(boundary, backbone.n_stages) for name in backbone.stage_parameters(stage)}
    frozen = {name for stage in range(boundary) for name in backbone.stage_parameters(stage)}
    assert not moved & frozen
    assert moved
    assert moved <= trained


def test_real_peptides_are_read_and_told_apart_better_than_by_chance(backbone, data_folder):
    """Random weights: what carries is the share of each amino acid, which a mean over tokens keeps."""
    with gzip.open(data_folder / "peptides_antimicrobial.csv.gz", "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == "avp_amppred"]
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:400]]
    X, y = [row["sequence"] for row in rows], np.array([int(row["label"]) for row in rows])
    model = FineTunedClassifier(backbone, freeze_depth=1.0).fit(X[:250], y[:250])
    assert model.score(X[250:], y[250:]) > 0.6
