"""Our model in transformers, with the same weights.

pip install -c constraints.txt -e ".[rivals]"
"""

from typing import Any

import torch
import transformers

from lab.model import Config

transformers.logging.set_verbosity_error()
PAD, BOS, EOS = 0, 1, 2


def marian(model: Any, config: Config) -> Any:
    """transformers' Marian with our weights: post-norm, ReLU, scaled and tied embeddings too."""
    theirs: Any = transformers.MarianMTModel(
        transformers.MarianConfig(
            vocab_size=config.vocab_size,
            d_model=config.d_model,
            encoder_layers=config.n_layers,
            decoder_layers=config.n_layers,
            encoder_attention_heads=config.n_heads,
            decoder_attention_heads=config.n_heads,
            encoder_ffn_dim=config.d_ff,
            decoder_ffn_dim=config.d_ff,
            max_position_embeddings=config.max_len,
            dropout=config.dropout,
            activation_function="relu",
            scale_embedding=True,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
            decoder_start_token_id=BOS,
            forced_eos_token_id=None,
        )
    ).eval()
    with torch.no_grad():
        theirs.model.shared.weight.copy_(model.embedding.embedding.weight)
        for side in (theirs.model.encoder, theirs.model.decoder):
            side.embed_positions.weight.copy_(model.positions.table)
    theirs.tie_weights()
    for side in ("encoder", "decoder"):
        layers = zip(getattr(theirs.model, side).layers, getattr(model, side).layers, strict=True)
        for copy, layer in layers:
            norms = [copy.self_attn_layer_norm]
            attentions = [(copy.self_attn, layer.self_attention)]
            if side == "decoder":
                norms.append(copy.encoder_attn_layer_norm)
                attentions.append((copy.encoder_attn, layer.cross_attention))
            for number, norm in enumerate([*norms, copy.final_layer_norm], start=1):
                norm.load_state_dict(getattr(layer, f"add_norm{number}").norm.state_dict())
            for attention, ours in attentions:
                for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    getattr(attention, name).load_state_dict(getattr(ours, name).state_dict())
            copy.fc1.load_state_dict(layer.feed_forward.linear1.state_dict())
            copy.fc2.load_state_dict(layer.feed_forward.linear2.state_dict())
    return theirs
