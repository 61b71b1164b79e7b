#!/usr/bin/env python3
"""Writes a tiny random BERT and what sentence-transformers makes of a few texts with it, into
tests/golden/embedding/.

The model has two layers of 32, four heads, 64 positions and a vocabulary of a few hundred word
pieces; its weights are drawn wide enough that attention is far from uniform and GELU bends. The
directory also holds the padding and truncation settings that the real MiniLM's tokenizer.json
carries, which a reader must override.

Run by hand, never in CI:  python make_embedding_golden.py
Made with torch 2.15.0, transformers 5.23.0, sentence-transformers 6.2.0, on CPU.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

OUT = Path(__file__).parent / "embedding"
TEXTS = [
    "",
    "refund",
    "Where is my order?",
    "my order is not here yet, where is it",
    "I was charged twice for the same subscription!",
    "Réfund  the\tORDER — naïve café",
    "unbelievable 订单 refunds 🙂 don't",
    "the order " * 60,
]


def vocabulary():
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789.,!?'-")
    pieces = letters + ["##" + letter for letter in letters[:36]]
    words = (
        "the my is not it for same here yet where order refund charged twice subscription was i "
        "cafe naive un ##believ ##able ##s ##ing ##ed 订 单 —"
    ).split()
    return {piece: at for at, piece in enumerate(dict.fromkeys(marks + pieces + words))}


def tokenizer(vocab):
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    return made


def main():
    OUT.mkdir(exist_ok=True)
    torch.manual_seed(7)
    vocab = vocabulary()
    config = BertConfig(
        vocab_size=len(vocab), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "LayerNorm.weight" in name:
                value.normal_(1.0, 0.2)
            else:
                value.normal_(0.0, 0.5 if "bias" not in name else 0.1)
    model.save_pretrained(OUT, safe_serialization=True)
    # Without the metadata of the day.
    save_file(load_file(OUT / "model.safetensors"), OUT / "model.safetensors")
    kept = json.loads((OUT / "config.json").read_text())
    kept = {key: kept[key] for key in sorted(kept) if key not in ("transformers_version", "dtype")}
    (OUT / "config.json").write_text(json.dumps(kept, indent=1) + "\n")

    plain = tokenizer(vocab)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )
    import tempfile
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        fast.save_pretrained(scratch)
        words = Transformer(scratch, max_seq_length=64)
        encoder = SentenceTransformer(
            modules=[words, Pooling(32, pooling_mode="mean"), Normalize()], device="cpu"
        )
        vectors = encoder.encode(TEXTS, batch_size=len(TEXTS), convert_to_numpy=True)
        ids = [fast(text, truncation=True, max_length=64)["input_ids"] for text in TEXTS]

    misleading = tokenizer(vocab)
    misleading.enable_padding(length=48, pad_id=0, pad_token="[PAD]")
    misleading.enable_truncation(12)
    misleading.save(str(OUT / "tokenizer.json"), pretty=False)
    cases = [
        {"text": text, "tokens": len(i), "vector": [round(float(x), 8) for x in vector]}
        for text, i, vector in zip(TEXTS, ids, vectors)
    ]
    (OUT / "vectors.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
