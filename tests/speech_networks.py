"""Small networks that transcribe speech, as folders that transformers wrote: real tokenizers, random weights."""

import json
import pathlib

import tokenizers
import transformers

from skltransfer.backbones import seeded

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CONTROL = ("startoftranscript", "en", "zh", "de", "translate", "transcribe", "startoflm", "startofprev", "nocaptions")


def whisper_tokenizer(texts, *, language=None):
    """Byte-level pairs learned from texts, and Whisper's special tokens behind them, in its order."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=2000, min_frequency=1, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    model = json.loads(backend.to_str())["model"]
    vocabulary = dict(model["vocab"])
    special = ["<|endoftext|>", *(f"<|{name}|>" for name in CONTROL), "<|notimestamps|>"]
    vocabulary |= {token: len(vocabulary) + i for i, token in enumerate(special)}
    tokenizer = transformers.WhisperTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in model["merges"]])
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    tokenizer.add_special_tokens({"pad_token": "<|endoftext|>"})
    if language is not None:
        tokenizer.set_prefix_tokens(language=language, task="transcribe")
    return tokenizer


def save_whisper(
    folder, *, texts=None, seconds=2, multilingual=False, seed=0, n_mels=40, rate=16000, language=None, **sizes
):
    """A network of the proportions of published ones: a tokenizer, a feature extractor, random weights."""
    texts = texts or [f"{a} {b}" for a in DIGITS for b in DIGITS]
    tokenizer = whisper_tokenizer(texts, language=language)
    width = sizes.pop("d_model", 32)
    heads = sizes.pop("heads", 4)
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in (*CONTROL, "endoftext", "notimestamps")}
    configuration = transformers.WhisperConfig(
        **{
            "d_model": width,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": heads,
            "decoder_attention_heads": heads,
            "encoder_ffn_dim": 4 * width,
            "decoder_ffn_dim": 4 * width,
            "max_source_positions": seconds * 50,
            "max_target_positions": 64,
            "num_mel_bins": n_mels,
            "vocab_size": len(tokenizer),
            "pad_token_id": ids["endoftext"],
            "bos_token_id": ids["endoftext"],
            "eos_token_id": ids["endoftext"],
            "decoder_start_token_id": ids["startoftranscript"],
            **sizes,
        }
    )
    with seeded(seed):
        model = transformers.WhisperForConditionalGeneration(configuration)
    generation = model.generation_config
    generation._from_model_config = False
    generation.no_timestamps_token_id = ids["notimestamps"]
    generation.is_multilingual = multilingual
    generation.suppress_tokens, generation.begin_suppress_tokens = None, None
    generation.return_timestamps = False
    if multilingual:
        generation.lang_to_id = {f"<|{code}|>": ids[code] for code in ("en", "de")}
        generation.task_to_id = {"transcribe": ids["transcribe"], "translate": ids["translate"]}
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    extractor = transformers.WhisperFeatureExtractor(
        feature_size=n_mels, chunk_length=seconds, sampling_rate=rate, hop_length=rate // 100, n_fft=rate // 40
    )
    extractor.save_pretrained(folder)
    return pathlib.Path(folder)


def save_ctc(folder, *, head=False, letters="efghinorstuvwxz", family="Wav2Vec2", seed=0, rate=16000, **sizes):
    """An encoder of waveforms; with ``head``, a checkpoint that transcribes, with ``|`` between words."""
    configuration = getattr(transformers, f"{family}Config")(
        **{
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "conv_dim": (16, 16, 16),
            "conv_kernel": (10, 8, 4),
            "conv_stride": (5, 8, 4),
            "num_feat_extract_layers": 3,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
            "feat_extract_norm": "layer",
            "vocab_size": len(letters) + 3,
            "pad_token_id": 0,
            "apply_spec_augment": False,
            "layerdrop": 0.0,
            **sizes,
        }
    )
    with seeded(seed):
        kind = getattr(transformers, f"{family}{'ForCTC' if head else 'Model'}")
        kind(configuration).save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=rate, return_attention_mask=True)
    extractor.save_pretrained(folder)
    if head:
        vocabulary = {token: i for i, token in enumerate(("<pad>", "<unk>", "|", *letters))}
        path = pathlib.Path(folder) / "vocab.json"
        path.write_text(json.dumps(vocabulary))
        transformers.Wav2Vec2CTCTokenizer(str(path), bos_token=None, eos_token=None).save_pretrained(folder)
    return pathlib.Path(folder)
