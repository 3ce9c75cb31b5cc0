"""Sphinx configuration: `make docs` builds the site into build/docs. Needs no network."""

import re

import fastkan

project = "fastkan"
version = release = fastkan.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc"]
html_theme = "furo"
html_show_copyright = False
html_title = f"fastkan {release}"

myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = -1  # a busy machine must not fail the build

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signatures of the source, with shapes in the docstrings, say more
default_role = "code"

FIELD = re.compile(r"[a-z_]\w*(?:, \w+)*(?:\(.*?\))?(?: \[[^]]*\])?: ")
MARKUP = re.compile(r"([*|]|(?<=\w)_(?=\W|$))")


def as_fields(app, what, name, obj, options, lines):
    """Make field lists of our docstrings' lines `name: meaning`, and escape what reStructuredText would take as markup."""
    result, kind = [], None
    for line in lines:
        if line.startswith((">>>", "...")):
            before, kind = kind, "example"
        elif not line.strip() or line.startswith(" "):
            before = kind
        else:
            before, kind = kind, "field" if result and FIELD.match(line) else "text"
        if kind != before:
            result.append("")
        if kind != "example":
            pieces = re.split(r"(`[^`]*`)", line)
            pieces[::2] = [MARKUP.sub(r"\\\1", piece) for piece in pieces[::2]]
            line = "".join(pieces)
        result.append(f":{line}" if kind == "field" and line.strip() and not line.startswith(" ") else line)
    lines[:] = result


def results_as_files(app, docname, source):
    """Tables of results are no pages of the site: link to the files."""
    source[0] = re.sub(r"\]\(([./]*benchmarks/results/[^)]*\.md)\)", r"](<path:\1>)", source[0])


def setup(app):
    app.connect("autodoc-process-docstring", as_fields)
    app.connect("source-read", results_as_files)
