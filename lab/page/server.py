"""Builds the page and serves it: nothing is fetched from outside, nothing is kept."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.page import resource  # first: it switches Gradio's analytics off

import gradio as gr  # isort: skip
from gradio import themes  # isort: skip
import torch

from lab.model import Checkpoint, CheckpointError, pick_device, shipped
from lab.page import translate

TITLE = "Attention Lab"
FONTS = [
    # The bundled semi-bold is a fragment of the font; regular and bold are whole.
    themes.LocalFont("Source Sans Pro", weights=(400, 700)),
    # Simplified Chinese by name: without it a browser may take Japanese shapes.
    "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "system-ui", "sans-serif",
]  # fmt: skip
THEME = themes.Default(font=FONTS).set(
    # White on the default orange is too pale to read (3.5 : 1); on this it is 5.2 : 1.
    button_primary_background_fill="#c2410c",
    button_primary_background_fill_dark="#c2410c",
    button_primary_background_fill_hover="#9a3412",
    button_primary_background_fill_hover_dark="#9a3412",
)


OPTIONS: dict[str, Any] = dict(
    theme=THEME,
    css=resource("attention.css"),
    share=False,
    run_history=False,  # it would keep every sentence in the browser, and slows each event
    footer_links=["settings"],
    enable_monitoring=False,
    max_file_size="1mb",
    allowed_paths=[],
    show_error=False,
)


def load(device: torch.device, checkpoint: Path | None = None) -> dict[str, Checkpoint]:
    """The models of the page: one given by its folder first, then the shipped ones."""
    folders = list(shipped().values())
    if checkpoint is not None:
        folders = [checkpoint, *folders]
    found: dict[str, Checkpoint] = {}
    for folder in folders:
        loaded = Checkpoint.load(folder, device)
        found.setdefault(loaded.pair, loaded)
    if not found:
        raise CheckpointError(
            "no model to show: train one with `lab train --data toy --out runs/toy` "
            "and open it with `lab app --checkpoint runs/toy`"
        )
    return found


Tab = Callable[[gr.Blocks], None]  # puts a gr.Tab and its events into the page


def build(checkpoints: dict[str, Checkpoint], tabs: Sequence[Tab] = ()) -> gr.Blocks:
    """The page; where there are other tabs, translating is the first one."""
    with gr.Blocks(title=TITLE) as page:
        gr.Markdown("# See a Transformer translate")
        if not tabs:
            translate.build(checkpoints)
        else:
            with gr.Tabs():
                with gr.Tab("Translate"):
                    translate.build(checkpoints)
                for tab in tabs:
                    tab(page)
    return page.queue(max_size=256)  # "queue is full" beats a wait of ten minutes


def launch(
    host: str = "127.0.0.1",
    port: int = 7860,
    device: str = "auto",
    checkpoint: Path | None = None,
    tabs: Sequence[Tab] = (),
    css: str = "",
    **options: Any,
) -> None:
    """Serve until stopped; `tabs`, their style and Gradio's `options` are whoever's who calls."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))  # one core stays free for the page
    page = build(load(pick_device(device), checkpoint), tabs)
    options = OPTIONS | options | {"css": OPTIONS["css"] + css}
    try:
        page.launch(
            server_name=host, server_port=port, quiet=True, prevent_thread_lock=True, **options
        )
    except OSError as error:  # gradio's words name its own function's arguments
        raise OSError(f"no page at {host}:{port}: give another --port or --host") from error
    print(f"The page is at {page.local_url}  (Ctrl-C stops it)", flush=True)
    page.block_thread()
