"""The Gradio page: one module per tab, one small JS and CSS file per drawing."""

import os
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("MKL_DISABLE_FAST_MM", "1")  # it keeps buffers for every size and thread


def resource(name: str, folder: Path = Path(__file__).parent) -> str:
    """The text of a file beside this one, or in another folder."""
    return (folder / name).read_text(encoding="utf-8")


def launch(*args, **kwargs):
    """Build and start the page; see lab.page.server."""
    from lab.page import server

    return server.launch(*args, **kwargs)
