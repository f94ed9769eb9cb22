"""Tiny networks that write texts, saved to folders as users would: random weights, real tokenizers built offline."""

import functools
import json
import pathlib

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .,-/':ABCDEFGH"
SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
T5 = {**SIZES, "num_decoder_layers": 1, "pad_token_id": 0, "eos_token_id": 1}
BART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
BART |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 96, "pad_token_id": 0}
BART |= {"bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 1}
FAMILIES = {
    "t5": lambda n, **k: transformers.T5Config(vocab_size=n, **T5 | k),
    "t5-v1.1": lambda n, **k: transformers.T5Config(
        vocab_size=n, feed_forward_proj="gated-gelu", tie_word_embeddings=False, **T5 | k
    ),
    "mt5": lambda n, **k: transformers.MT5Config(vocab_size=n, **T5 | k),
    "umt5": lambda n, **k: transformers.UMT5Config(vocab_size=n, **T5 | k),
    "bart": lambda n, **k: transformers.BartConfig(vocab_size=n, **BART | k),
    "mbart": lambda n, **k: transformers.MBartConfig(vocab_size=n, **BART | k),
    "marian": lambda n, **k: transformers.MarianConfig(vocab_size=n, **BART | {"decoder_start_token_id": 0} | k),
    "m2m100": lambda n, **k: transformers.M2M100Config(
        vocab_size=n, encoder_layerdrop=0.0, **BART | {"decoder_start_token_id": 0} | k
    ),
    "pegasus": lambda n, **k: transformers.PegasusConfig(vocab_size=n, **BART | {"decoder_start_token_id": 0} | k),
}


def letters_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A token is a letter; the end is marked."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def save_writer(folder: pathlib.Path, family: str = "t5", **changes) -> str:
    """A folder of a network of a family, and its name."""
    tokenizer = letters_tokenizer()
    tokenizer.save_pretrained(folder)
    return _saved(FAMILIES[family](len(tokenizer), **changes), folder)


@functools.cache
def padded(texts: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of texts, padded with zeros, and their mask."""
    found = letters_tokenizer()(list(texts), padding=True, return_tensors="pt")
    return found["input_ids"], found["attention_mask"]


WORDS = ["the", "a", "dog", "cat", "house", "red", "is", "was", "in", "of", "and"]
WOERTER = ["ein", "der", "hund", "katze", "haus", "rot", "ist", "war", "und", "von", "im"]


def save_marian(folder: pathlib.Path) -> str:
    """A Marian network with its own tokenizer, which has one SentencePiece file for each language."""
    import sentencepiece

    pieces = []
    for name, words in (("source", WORDS), ("target", WOERTER)):
        text = folder / f"{name}.txt"
        text.write_text("\n".join(" ".join(words[(i * k) % len(words)] for k in range(1, 7)) for i in range(200)))
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=str(folder / name), vocab_size=34, hard_vocab_limit=False, minloglevel=2
        )
        read = sentencepiece.SentencePieceProcessor(str(folder / f"{name}.model"))
        pieces += [read.id_to_piece(i) for i in range(read.get_piece_size())]
    own = ("</s>", "<unk>", "<s>")
    vocabulary = {
        p: i for i, p in enumerate(["</s>", "<unk>", *dict.fromkeys(p for p in pieces if p not in own), "<pad>"])
    }
    (folder / "words.json").write_text(json.dumps(vocabulary))
    transformers.MarianTokenizer(
        source_spm=str(folder / "source.model"),
        target_spm=str(folder / "target.model"),
        vocab=str(folder / "words.json"),
    ).save_pretrained(folder)
    pad = vocabulary["<pad>"]
    config = FAMILIES["marian"](len(vocabulary), pad_token_id=pad, eos_token_id=0, decoder_start_token_id=pad)
    return _saved(config, folder)


def save_mbart(folder: pathlib.Path, **languages: str) -> str:
    """An mBART-50 network, whose tokenizer puts the language before each text."""
    vocabulary = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary += [(f"\u2581{word}", -2.0) for word in (*WORDS, *WOERTER)] + [("\u2581", -3.0)]
    tokenizer = transformers.MBart50Tokenizer(vocab=vocabulary, **languages)
    tokenizer.save_pretrained(folder)
    config = FAMILIES["mbart"](len(tokenizer), pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, bos_token_id=0)
    return _saved(config, folder)


def _saved(config: transformers.PreTrainedConfig, folder: pathlib.Path) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForSeq2SeqLM.from_config(config)
        for weights in model.parameters():  # far from uniform, so that beams differ from greedy search
            weights.data.add_(0.3 * torch.randn_like(weights))
    model.save_pretrained(folder)
    return f"hf:{folder}"
