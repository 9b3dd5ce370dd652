"""Sphinx configuration. `make docs` builds with -W: a warning is an error."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import flexcore

project = "flexcore"
author = "flexcore contributors"
copyright = "2026, flexcore contributors"
version = release = flexcore.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
root_doc = "index"
default_role = None
html_theme = "alabaster"  # comes with Sphinx: nothing is fetched
html_theme_options = {
    "description": flexcore.__doc__.splitlines()[0].removeprefix("flexcore: ") if flexcore.__doc__ else "",
    "fixed_sidebar": True,
    "page_width": "1060px",
}
html_show_sourcelink = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
nitpicky = False

sys.path.insert(0, str(Path(__file__).parent.parent))


class CommandHelp(SphinxDirective):
    """``.. command-help:: NAME`` prints what ``flexcore NAME --help`` prints, from the parser itself."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        cli = importlib.import_module("flexcore_tools.cli")
        name = self.arguments[0]
        try:
            text = cli._overview() if name == "flexcore" else cli.make_parser(name).format_help()
        except ModuleNotFoundError as error:
            return [self.state.document.reporter.warning(f"no help of {name}: {error}", line=self.lineno)]
        block = nodes.literal_block(text, text)
        block["language"] = "none"
        return [block]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
