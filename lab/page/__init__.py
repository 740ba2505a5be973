"""The Gradio page: one module per tab, one small JS and CSS file per drawing.

Gradio is imported here, before any of them: it calls nobody, and it starts in half the time.
"""

import inspect
import os
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported


def _getfile(thing, getfile=inspect.getfile):
    """Gradio, imported, writes a stub (.pyi) beside each of its classes, though its wheel brings
    them: half of the import, and a write into what was installed. Of a class without a file it
    writes none."""
    if isinstance(thing, type) and thing.__module__.startswith("gradio."):
        raise OSError("while gradio is imported, its classes are of no file")
    return getfile(thing)


inspect.getfile, getfile = _getfile, inspect.getfile
try:
    import gradio  # noqa: E402, F401
finally:
    inspect.getfile = getfile


def resource(name: str, folder: Path = Path(__file__).parent) -> str:
    """The text of a file beside this one, or in another folder."""
    return (folder / name).read_text(encoding="utf-8")


def launch(*args, **kwargs):
    """Build and start the page; see lab.page.server."""
    from lab.page import server

    return server.launch(*args, **kwargs)
