"""How well models translate, scored as we score and as the published record is scored.

    pip install -c constraints.txt -e ".[rivals]"
    python benchmarks/quality.py multi30k [--pair en-de] [--checkpoint FOLDER] [--beam 5]

The record's protocol (Wu et al. 2021): hypotheses and references lowercased and split into words
by Moses' rules, BLEU over those words, beam 5. Beside it sacreBLEU's own splitting, cased, which
is comparable from paper to paper. Last, whether attention looks at the right words.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from sacrebleu.metrics.bleu import BLEU
from sacremoses import MosesPunctNormalizer, MosesTokenizer

from lab import data as corpora
from lab.alignment import attention_alignment
from lab.data import TRAIN, VALID, Pair
from lab.model import Checkpoint, shipped
from lab.scores import score
from lab.translation import Search, translate

torch.set_num_threads(1)


def main(
    data: Path,
    pair: str = "en-de",
    checkpoint: Path | None = None,
    beam: int = 5,
    length_penalty: float = 1.0,
    splits: Annotated[list[str] | None, typer.Option("--split")] = None,
) -> None:
    """One row a split."""
    loaded = Checkpoint.load(checkpoint or shipped()[pair])
    corpus = corpora.load(data, loaded.source, loaded.target)
    print(f"| {loaded.pair}, beam {beam} | BLEU cased | BLEU lowercased, tokenised | chrF |")
    print("|---|---|---|---|")
    for name in splits or [name for name in corpus.splits if name != TRAIN]:
        references = _references(corpus[name])
        search = Search("beam", beam_size=beam, length_penalty=length_penalty)
        texts = [found.text for found in translate(loaded, list(references), search)]
        found = score(texts, list(references.values()), loaded.target)
        lowered = lowercased_bleu(texts, list(references.values()), loaded.target)
        print(f"| {name} | {found.bleu:.2f} | {lowered:.2f} | {found.chrf:.2f} |", flush=True)
    aligned = attention_alignment(loaded, corpus[TRAIN], corpus[VALID])
    layers = ", ".join(f"{share:.0%}" for share in aligned.layers)
    print(
        f"\nOf {aligned.words} content words, cross-attention peaks on the right source word for "
        f"{layers} (by layer; a guess: {aligned.chance:.0%})."
    )


def _references(pairs: Sequence[Pair]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in pairs:
        found.setdefault(pair.source, []).append(pair.target)
    return found


def lowercased_bleu(
    texts: Sequence[str], references: Sequence[Sequence[str]], language: str
) -> float:
    """As `multi-bleu.perl` counts, after Moses' normalisation, tokenisation and lowercasing."""
    normaliser, tokenizer = MosesPunctNormalizer(language), MosesTokenizer(language)

    def tokens(text: str) -> str:
        split = tokenizer.tokenize(normaliser.normalize(text), escape=False, return_str=True)
        return str(split).lower()

    columns = [
        [tokens(accepted[i]) if i < len(accepted) else None for accepted in references]
        for i in range(max(map(len, references)))
    ]
    bleu = BLEU(tokenize="none", force=True, smooth_method="none")
    return bleu.corpus_score([tokens(text) for text in texts], columns).score  # type: ignore[arg-type]


if __name__ == "__main__":
    typer.run(main)
