"""Decoding speed as ratios: ours, transformers' and CTranslate2's, with the same weights.

    pip install -c constraints.txt -e ".[rivals]"
    taskset -c 0 python benchmarks/decoding.py

Rivals take turns, round after round, so that a busy machine slows all alike; times are CPU time of
the whole process. All write exactly as many tokens, and the same ones: that is checked first.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import tempfile
from collections.abc import Callable
from typing import Any

import ctranslate2
import numpy as np
import torch
import transformers
from ctranslate2.specs import common_spec, transformer_spec
from rivals import BOS, EOS, PAD, marian
from speed import measure, processor, report
from torch import nn

from lab import decoding
from lab.model import Config, build, initialise

torch.set_num_threads(1)
CONFIGS = [
    Config(vocab_size=8000, d_model=256, n_heads=4, n_layers=3, d_ff=1024, dropout=0.0),
    Config(vocab_size=6000, d_model=128, n_heads=4, n_layers=4, d_ff=512, dropout=0.0),
]
SOURCE, NEW = 14, 14  # tokens read and tokens written
NEVER = -1  # ends no sentence
LENGTH_PENALTY = 0.6


def model_of(config: Config) -> nn.Module:
    """Random weights; biases and norms as well, so that leaving one out would show."""
    model = build(config).eval()
    initialise(model, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1, generator=generator)
            elif name.endswith("norm.weight"):
                parameter.normal_(mean=1.0, std=0.2, generator=generator)
    return model


def ctranslate2_of(model: Any, config: Config, compute_type: str) -> ctranslate2.Translator:
    """CTranslate2's Transformer with our weights, on one thread."""
    spec = transformer_spec.TransformerSpec.from_config(
        config.n_layers, config.n_heads, pre_norm=False, activation=common_spec.Activation.RELU
    )
    embedding = _numpy(model.embedding.embedding.weight)
    for side, table in (
        (spec.encoder, spec.encoder.embeddings[0]),
        (spec.decoder, spec.decoder.embeddings),
    ):
        table.weight = embedding
        side.scale_embeddings = config.d_model**0.5
        side.position_encodings.encodings = _numpy(model.positions.table)
    spec.decoder.projection.weight = embedding
    for copy, layer in zip(spec.encoder.layer, model.encoder.layers, strict=True):
        _copy_self_attention(copy, layer)
        _copy_feed_forward(copy, layer, layer.add_norm2)
    for copy, layer in zip(spec.decoder.layer, model.decoder.layers, strict=True):
        _copy_self_attention(copy, layer)
        cross = layer.cross_attention
        _copy_linear(copy.attention.linear[0], cross.q_proj)
        _copy_linear(copy.attention.linear[1], cross.k_proj, cross.v_proj)
        _copy_linear(copy.attention.linear[2], cross.out_proj)
        _copy_norm(copy.attention.layer_norm, layer.add_norm2)
        _copy_feed_forward(copy, layer, layer.add_norm3)
    tokens = names(config)
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.bos_token, spec.config.eos_token = tokens[BOS], tokens[EOS]
    spec.config.unk_token, spec.config.decoder_start_token = tokens[PAD], tokens[BOS]
    spec.validate()
    spec.optimize()
    with tempfile.TemporaryDirectory() as folder:
        spec.save(folder)
        return ctranslate2.Translator(
            folder, device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=1
        )


def names(config: Config) -> list[str]:
    return ["<pad>", "<s>", "</s>", *(f"t{number}" for number in range(3, config.vocab_size))]


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().numpy()


def _copy_linear(copy: Any, *layers: nn.Linear) -> None:
    copy.weight = np.concatenate([_numpy(layer.weight) for layer in layers])
    copy.bias = np.concatenate([_numpy(layer.bias) for layer in layers])


def _copy_norm(copy: Any, part: Any) -> None:
    copy.gamma, copy.beta = _numpy(part.norm.weight), _numpy(part.norm.bias)


def _copy_self_attention(copy: Any, layer: Any) -> None:
    ours, theirs = layer.self_attention, copy.self_attention
    _copy_linear(theirs.linear[0], ours.q_proj, ours.k_proj, ours.v_proj)
    _copy_linear(theirs.linear[1], ours.out_proj)
    _copy_norm(theirs.layer_norm, layer.add_norm1)


def _copy_feed_forward(copy: Any, layer: Any, norm: Any) -> None:
    _copy_linear(copy.ffn.linear_0, layer.feed_forward.linear1)
    _copy_linear(copy.ffn.linear_1, layer.feed_forward.linear2)
    _copy_norm(copy.ffn.layer_norm, norm)


Written = list[list[int]]


def rivals(config: Config, batch: int, beam: int) -> dict[str, Callable[[], Written]]:
    """What each writes for the same sources: NEW ids a sentence, without <s>."""
    model = model_of(config)
    theirs = marian(model, config)
    tokens = names(config)
    ids = {token: number for number, token in enumerate(tokens)}
    generator = torch.Generator().manual_seed(0)
    src = torch.randint(3, config.vocab_size, (batch, SOURCE), generator=generator)
    texts = [[tokens[number] for number in row] for row in src.tolist()]
    not_padding = torch.ones_like(src)

    def ours(cache: bool | None) -> Callable[[], Written]:
        def greedy() -> Written:
            found = decoding.greedy_decode(model, src, BOS, NEVER, NEW + 1, cache=cache)
            return found[:, 1:].tolist()

        def search() -> Written:
            settings = (BOS, NEVER, beam, NEW + 1, LENGTH_PENALTY)
            found = decoding.beam_decode(model, src, *settings, cache=cache)
            return [of_sentence[0][0][1:] for of_sentence in found]

        return greedy if beam == 1 else search

    def generate() -> Written:
        found = theirs.generate(
            input_ids=src,
            attention_mask=not_padding,
            num_beams=beam,
            do_sample=False,
            min_new_tokens=NEW,
            max_new_tokens=NEW,
        )
        return found[:, 1:].tolist()

    def translator(compute_type: str) -> Callable[[], Written]:
        translator = ctranslate2_of(model, config, compute_type)

        def translate() -> Written:
            found = translator.translate_batch(
                texts,
                beam_size=beam,
                length_penalty=LENGTH_PENALTY,
                min_decoding_length=NEW,
                max_decoding_length=NEW,
            )
            return [[ids[token] for token in one.hypotheses[0]] for one in found]

        return translate

    return {
        "ours, no cache": ours(cache=False),
        "ours, readable cache": ours(cache=True),
        "ours, lab.fast": ours(cache=None),
        "transformers generate (Marian), cache": generate,
        "CTranslate2 float32": translator("float32"),
        "CTranslate2 int8": translator("int8"),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    options.add_argument("--beam", type=int, nargs="+", default=[1, 4])
    chosen = options.parse_args()
    print(f"{processor()}, one core, torch {torch.__version__}")
    print(f"transformers {transformers.__version__}, CTranslate2 {ctranslate2.__version__}")
    for config in CONFIGS:
        print(f"\n{config}")
        for batch in chosen.batch:
            for beam in chosen.beam:
                runs = rivals(config, batch, beam)
                if beam == 1:  # beams are scored by other penalties
                    written = {name: run() for name, run in runs.items() if "int8" not in name}
                    first = next(iter(written.values()))
                    differ = [name for name, found in written.items() if found != first]
                    print(f"\nwrite other tokens than the first: {', '.join(differ) or 'none'}")
                title = f"{'greedy' if beam == 1 else f'beam {beam}'}, {batch} × {SOURCE} → {NEW}"
                seconds = measure(runs, chosen.rounds)
                report(title, seconds, "CTranslate2 float32", batch * NEW, "tokens/s")


if __name__ == "__main__":
    main()
