"""Tiny networks that answer questions, as folders: the families' own classes with random weights, real tokenizers."""

import tokenizers
import transformers

from skltransfer.backbones import seeded

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
WORDS = [
    "the",
    "a",
    "who",
    "where",
    "when",
    "was",
    "is",
    "did",
    "born",
    "in",
    "moved",
    "to",
    "lima",
    "oslo",
    "rome",
    "anna",
    "boris",
    "clara",
    "1970",
    "1984",
    "1991",
    ".",
    ",",
    "?",
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
SHARED = {"vocab_size": 400, "max_position_embeddings": 90, **SIZES}
FAMILIES = {
    "BERT": ("BertForQuestionAnswering", transformers.BertConfig, SHARED),
    "RoBERTa": ("RobertaForQuestionAnswering", transformers.RobertaConfig, {**SHARED, "type_vocab_size": 1}),
    "DistilBERT": (
        "DistilBertForQuestionAnswering",
        transformers.DistilBertConfig,
        {"vocab_size": 400, "max_position_embeddings": 90, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48},
    ),
    "ELECTRA": ("ElectraForQuestionAnswering", transformers.ElectraConfig, {**SHARED, "embedding_size": 16}),
    "DeBERTa": (
        "DebertaV2ForQuestionAnswering",
        transformers.DebertaV2Config,
        {**SHARED, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    ),
}


def tokenizer_of(family):
    """Words that lose their case in pairs with segments, as BERT has them; bytes without segments, as RoBERTa."""
    cls, _, sep, unknown = SPECIAL
    names = ["input_ids", "attention_mask"]
    if family == "RoBERTa":
        letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {token: i for i, token in enumerate((*SPECIAL, *letters))}
        merges = []
        for pair in ("\u0120 1", "\u01201 9", "L i", "Li m", "Lim a", "\u0120 L", "\u0120L i"):
            first, second = pair.split(" ")
            if first in vocabulary and second in vocabulary and first + second not in vocabulary:
                merges.append((first, second))
                vocabulary[first + second] = len(vocabulary)
        backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown))
        backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.post_processor = tokenizers.processors.RobertaProcessing((sep, 2), (cls, 0), trim_offsets=False)
    else:
        vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
        backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=unknown))
        backend.normalizer = tokenizers.normalizers.Lowercase()
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        template = {"single": f"{cls} $A {sep}", "pair": f"{cls} $A {sep} $B:1 {sep}:1"}
        ends = [(cls, 0), (sep, 2)]
        backend.post_processor = tokenizers.processors.TemplateProcessing(**template, special_tokens=ends)
        names += ["token_type_ids"] * (family in ("BERT", "ELECTRA"))
    special = {"unk_token": unknown, "pad_token": "<pad>", "model_max_length": 64, "model_input_names": names}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def saved(family, folder, *, seed=3, headless=False, **settings):
    """A folder that ``hf:`` loads; ``headless`` keeps the encoder alone."""
    name, config, sizes = FAMILIES[family]
    tokenizer_of(family).save_pretrained(folder)
    with seeded(seed):
        model = getattr(transformers, name)(config(**sizes, pad_token_id=1, **settings))
    (getattr(model, model.base_model_prefix) if headless else model).save_pretrained(folder)
    return f"hf:{folder}"
