"""A sentence-transformers model of a few kilobytes with random weights, made where there is no network."""

from pathlib import Path

import torch

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *["red", "green", "soap", "brush", "brand", "title", "a", "b", "c", "d", ",", ".", ":"],
]
DIM = 16


def write_model(folder: Path, seed: int = 0) -> Path:
    """The folder of a two-layer BERT with mean pooling, as ``SentenceTransformer.save`` writes it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(seed)
    backbone = folder.parent / "backbone"
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=DIM,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(backbone)
    BertTokenizer(vocab={word: n for n, word in enumerate(WORDS)}).save_pretrained(backbone)
    transformer = Transformer(str(backbone), max_seq_length=32)
    SentenceTransformer(modules=[transformer, Pooling(DIM)], device="cpu").save(str(folder))
    return folder
