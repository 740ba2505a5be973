"""How good translations are: BLEU and chrF, each with the signature that makes it repeatable."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scores:
    bleu: float  # 0 ... 100
    chrf: float  # 0 ... 100
    exact: float  # share of translations equal to a reference, 0 ... 1
    bleu_signature: str
    chrf_signature: str


def score(
    translations: Sequence[str], references: Sequence[Sequence[str]], language: str
) -> Scores:
    """Corpus scores; references[i] are the accepted translations of sentence i.

    BLEU splits words as sacreBLEU's 13a does, Chinese into characters (zh).
    """
    # Imported where it is used: it takes as long as all of the lab beside torch.
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    most = max(len(accepted) for accepted in references)
    # sacreBLEU wants the references by column, and takes None where a sentence has no more.
    columns: list[Any] = [
        [accepted[i] if i < len(accepted) else None for accepted in references] for i in range(most)
    ]
    bleu = BLEU(tokenize="zh" if language == "zh" else "13a")
    chrf = CHRF()
    exact = sum(text in accepted for text, accepted in zip(translations, references, strict=True))
    return Scores(
        bleu=bleu.corpus_score(list(translations), columns).score,
        chrf=chrf.corpus_score(list(translations), columns).score,
        exact=exact / len(references),
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
    )
