"""How strongly drugs bind to proteins: pairs of unlike things, on pairs, proteins and drugs that were not seen.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_pairs.py results.json [proteins]

The Davis data: 68 kinase inhibitors (SMILES) by 442 proteins, 30,056 values of pKd. Five folds of pairs at random, of
whole proteins, and of whole drugs. *Identities*: which drug and which protein it is, and ridge regression: what the
means of a row and a column say. *Letters*: how often each letter occurs in either text, and boosted trees. *Random
networks*: an ESM-2 and a RoBERTa of tiny size with random weights beside the same trees, which shows the mechanics and
is no transfer. Scores are those of the field: the concordance index (share of pairs of different pKd that are put in
the right order) and the mean squared error. Nothing is tuned. ``proteins`` takes the first ones alone, for a trial.
Results are kept in the file as they come, so a killed run goes on. Alone on 2 cores: a few minutes.
"""

import gzip
import json
import os
import pathlib
import sys
import tempfile

import numpy as np
import tokenizers
import transformers
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from skltransfer import ActivationStore, PairedFeatureExtractor, PretrainedFeatureExtractor
from skltransfer.backbones import seeded

FOLDS, ROWS = 5, 500
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
RESIDUES = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]


def davis(n_proteins: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (n, 2) of a drug and a protein, and the pKd of each."""
    with gzip.open(pathlib.Path(os.environ["SKLTRANSFER_DATA"]) / "binding_davis.json.gz", "rt") as file:
        data = json.load(file)
    proteins = data["proteins"][:n_proteins]
    X = np.array([(drug, protein) for drug in data["ligands"] for protein in proteins], dtype=object)
    return X, np.array(data["pKd"])[:, : len(proteins)].ravel()


def protein_network(folder: pathlib.Path) -> str:
    (folder / "vocab.txt").write_text("\n".join(RESIDUES))
    transformers.EsmTokenizer(str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
    positions = {"max_position_embeddings": 514, "position_embedding_type": "rotary", "token_dropout": True}
    ids = {"vocab_size": len(RESIDUES), "pad_token_id": 1, "mask_token_id": len(RESIDUES) - 1}
    with seeded(0):
        transformers.EsmModel(transformers.EsmConfig(**SMALL, **positions, **ids)).save_pretrained(folder)
    return f"hf:{folder}"


def drug_network(folder: pathlib.Path, drugs: list[str]) -> str:
    letters = ["<s>", "<pad>", "</s>", "<unk>", *sorted(set("".join(drugs)))]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({x: i for i, x in enumerate(letters)}, "<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    backend.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "model_max_length": 256}
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    config = transformers.RobertaConfig(**SMALL, vocab_size=len(letters), max_position_embeddings=258)
    with seeded(0):
        transformers.RobertaModel(config).save_pretrained(folder)
    return f"hf:{folder}"


def models(folder: pathlib.Path, drugs: list[str], store: ActivationStore) -> dict[str, Pipeline]:
    for name in ("drugs", "proteins"):
        (folder / name).mkdir()
    networks = drug_network(folder / "drugs", drugs), protein_network(folder / "proteins")
    readers = (PretrainedFeatureExtractor(network, cache=store) for network in networks)
    letters = CountVectorizer(analyzer="char", lowercase=False)
    identity = OneHotEncoder(handle_unknown="ignore")
    dense = FunctionTransformer(lambda counts: counts.toarray())
    trees = HistGradientBoostingRegressor(random_state=0)
    return {
        "identities, ridge": make_pipeline(PairedFeatureExtractor(identity, identity), Ridge()),
        "letters, trees": make_pipeline(PairedFeatureExtractor(letters, letters), dense, trees),
        "random networks, trees": make_pipeline(PairedFeatureExtractor(*readers), trees),
    }


def concordance(y: np.ndarray, predicted: np.ndarray) -> float:
    """Share of pairs of different y that are in the right order; a tie of predictions counts half."""
    right = total = 0.0
    for start in range(0, len(y), ROWS):
        part = slice(start, start + ROWS)
        is_larger = y[part, None] > y[None]
        difference = (predicted[part, None] - predicted[None])[is_larger]
        right += (difference > 0).sum() + (difference == 0).sum() / 2
        total += is_larger.sum()
    return right / total


def splits(X: np.ndarray) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    shuffled = {"n_splits": FOLDS, "shuffle": True, "random_state": 0}
    return {
        "pairs": list(KFold(**shuffled).split(X)),
        "new proteins": list(GroupKFold(**shuffled).split(X, groups=X[:, 1])),
        "new drugs": list(GroupKFold(**shuffled).split(X, groups=X[:, 0])),
    }


def main(path: str, n_proteins: str = "442") -> None:
    kept = pathlib.Path(path)
    results = json.loads(kept.read_text()) if kept.exists() else {}
    X, y = davis(int(n_proteins))
    store = ActivationStore()
    with tempfile.TemporaryDirectory() as folder:
        contestants = models(pathlib.Path(folder), sorted(set(X[:, 0])), store)
        for split, folds in splits(X).items():
            for name, model in contestants.items():
                for number, (train, test) in enumerate(folds):
                    key = f"{n_proteins} | {split} | {name} | {number}"
                    if key not in results:
                        predicted = model.fit(X[train], y[train]).predict(X[test])
                        error = float(np.mean((predicted - y[test]) ** 2))
                        results[key] = [float(concordance(y[test], predicted)), error]
                        kept.write_text(json.dumps(results, indent=1))
    print(f"{len(X)} pairs; the networks read {store.info()['misses']} texts\n")
    print("| split | model | concordance index | mean squared error |\n|---|---|---|---|")
    for split in splits(X):
        for name in contestants:
            found = np.array([results[f"{n_proteins} | {split} | {name} | {number}"] for number in range(FOLDS)])
            (index, error), (spread, of_error) = found.mean(0), found.std(0, ddof=1)
            print(f"| {split} | {name} | {index:.3f} ± {spread:.3f} | {error:.3f} ± {of_error:.3f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
