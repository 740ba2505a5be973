"""Builds the page and serves it: nothing is fetched from outside, nothing is kept."""

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import gradio as gr
import torch
from gradio import themes
from starlette.middleware import Middleware

from lab.model import Checkpoint, CheckpointError, pick_device, shipped
from lab.page import compare, heads, inside, masks, resource, training, translate, words
from lab.page.first import First
from lab.page.gate import Gate
from lab.page.headers import Headers, framing

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # <malloc.h>
ICON = '<link rel="icon" href="favicon.ico">'  # below the page's own path
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
# Each has `build(checkpoints, folder)` and a drawing of its name; `folder` is as below.
TABS = {
    "translate": translate, "inside": inside, "masks": masks, "heads": heads, "compare": compare,
    "training": training,
}  # fmt: skip


OPTIONS: dict[str, Any] = dict(
    theme=THEME,
    css="".join(resource(f"{name}.css") for name in ("common", *TABS)),
    i18n=words.LABELS,
    share=False,
    run_history=False,  # it would keep every sentence in the browser, and slows each event
    footer_links=[],
    enable_monitoring=False,
    max_file_size="1mb",
    allowed_paths=[],
    state_session_capacity=64,  # visitors whose last answers Gradio keeps: half a megabyte each
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


Tab = Callable[[gr.Blocks, Mapping[str, Checkpoint]], None]  # puts a gr.Tab and its events into it


def build(
    checkpoints: Mapping[str, Checkpoint], tabs: Sequence[Tab] = (), folder: Path | None = None
) -> gr.Blocks:
    """The page: the lab's own tabs, then the others. `folder` is where the first checkpoint is
    from, where it is not a shipped one: with its run's snapshots, if it has some."""
    with gr.Blocks(title="Attention Lab") as page:
        gr.HTML(
            html_template=resource("title.html"),
            js_on_load=resource("common.js") + resource("title.js"),
            apply_default_css=False,
        )
        with gr.Tabs(overflow_behavior="wrap"):  # on a phone they take a second line, and no menu
            for name, tab in TABS.items():
                with gr.Tab(words.label(f"{name}.tab"), id=name):
                    tab.build(checkpoints, folder)
            for tab in tabs:
                tab(page, checkpoints)
    return page.queue(max_size=256)  # "queue is full" beats a wait of ten minutes


def give_memory_back() -> None:
    """Have glibc return what tensors leave free; by itself it keeps a heap for every thread. With
    this, and one thread that computes (lab.page.computing), the page takes a seventh more after a
    thousand translations than after a hundred; without the two it was 80 %."""
    with suppress(OSError, AttributeError, TypeError):  # another libc, another system
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, 1 << 16)
        mallopt(M_TRIM_THRESHOLD, 1 << 17)


def ask_itself(host: str) -> None:
    """Gradio asks the page that it starts whether it is there: directly, no proxy can know."""
    others = getproxies().get("no", "")
    os.environ["no_proxy"] = ",".join(filter(None, (others, "localhost", "127.0.0.1", host)))


def launch(
    host: str = "127.0.0.1",
    port: int = 7860,
    device: str = "auto",
    checkpoint: Path | None = None,
    tabs: Sequence[Tab] = (),
    css: str = "",
    middleware: Sequence[Middleware] = (),
    **options: Any,
) -> None:
    """Serve until stopped; `tabs`, their style, `middleware` and Gradio's `options` are whoever's
    who calls."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))  # one core stays free for the page
    give_memory_back()
    ask_itself(host)
    page = build(load(pick_device(device), checkpoint), tabs, checkpoint)
    options = OPTIONS | options | {"css": OPTIONS["css"] + css}
    layers = [
        Middleware(Headers, frames=framing()),  # type: ignore[arg-type]
        *middleware,
        Middleware(Gate, page=page),  # type: ignore[arg-type]
        Middleware(First, text=ICON + words.head()),  # type: ignore[arg-type]
    ]
    try:
        page.launch(
            server_name=host, server_port=port, quiet=True, prevent_thread_lock=True,
            app_kwargs={"middleware": layers}, **options,
            # Else it looks once more, and on a busy machine gives up after 3 s.
            _frontend=False,
        )  # fmt: skip
    except OSError as error:  # gradio's words name its own function's arguments
        raise OSError(f"no page at {host}:{port}: give another --port or --host") from error
    print(f"The page is at {page.local_url}  (Ctrl-C stops it)", flush=True)
    page.block_thread()
