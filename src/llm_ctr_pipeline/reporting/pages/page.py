"""HTML around Plotly's figures: titles and captions that wrap, light and dark, on paper as well.

A page needs no network: a report holds plotly.js once, and figures' pages share a copy beside them.
"""

import copy
import re

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

PLOTLY = "plotly.min.js"  # beside the pages of figures
HEIGHT = 460  # pixels, of a figure that names none
_CONFIG = {"responsive": True, "displayModeBar": False}
_ENVIRONMENT = Environment(
    loader=PackageLoader(__package__),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def figure_page(figure: go.Figure) -> str:
    """Write a page of one figure, which loads `PLOTLY` from its own folder."""
    return render("figure.html", title=figure.layout.title.text or "Figure", figure=figure)


def report_page(template: str, title: str, **content: object) -> str:
    """Write a report with plotly.js in it.

    Args:
        template: Its file's name below `templates`.
        title: Of the page.
        content: What the template names.
    """
    return render(template, title=title, plotly_js=Markup(get_plotlyjs()), **content)  # noqa: S704


def render(template: str, **content: object) -> str:
    """Fill in a template, in which text is escaped and `plot` draws a figure."""
    return _ENVIRONMENT.get_template(template).render(**content)


def plot(figure: go.Figure, name: str) -> Markup:
    """Write a figure as HTML, without what the page writes around it: title, caption and notes.

    Args:
        figure: The figure.
        name: Its element's id, one for each figure of a page.
    """
    drawn = copy.deepcopy(figure)
    drawn.layout.title.text = None
    drawn.layout.margin.t = 24
    height = f"{figure.layout.height or HEIGHT}px"
    html = drawn.to_html(
        config=_CONFIG,
        include_plotlyjs=False,
        full_html=False,
        default_height=height,
        div_id=name,
    )
    return Markup(html)  # noqa: S704 - Plotly escapes what closes a script


def cell(text: object) -> Markup:
    """Write a table's cell, in which no line breaks within an interval."""
    spans = re.sub(r"\[[^\]]*\]", r"<span>\g<0></span>", str(escape(text)))
    return Markup(spans)  # noqa: S704 - escaped above


def _meta(figure: go.Figure) -> dict[str, object]:
    """What `apply_style` left for the page: caption and notes."""
    return {"caption": "", "notes": [], **(figure.layout.meta or {})}


_ENVIRONMENT.filters.update(thousands="{:,}".format, cell=cell)
_ENVIRONMENT.globals.update(plot=plot, meta=_meta)
