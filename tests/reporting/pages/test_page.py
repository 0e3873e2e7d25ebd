import plotly.graph_objects as go

from llm_ctr_pipeline.reporting.pages.page import PLOTLY, figure_page
from llm_ctr_pipeline.reporting.plot_style import apply_style


def test_title_caption_and_notes_stand_around_the_figure_and_are_escaped() -> None:
    figure = go.Figure(go.Scatter(x=[1], y=[2]))
    apply_style(figure, "A < B", "A caption & more", ["† A note"])
    page = figure_page(figure)
    assert "<title>A &lt; B</title>" in page
    assert "<h3>A &lt; B</h3>" in page
    assert "<p>A caption &amp; more</p>" in page
    assert "† A note</p>" in page
    assert page.count(PLOTLY) == 1
    # It is drawn without them: on a narrow screen they would not wrap.
    assert "A \\u003c B" not in page
    assert figure.layout.title.text == "A < B"


def test_a_value_of_a_log_cannot_end_the_script() -> None:
    figure = go.Figure(go.Scatter(x=["</script><script>alert(1)</script>"], y=[2]))
    assert "<script>alert" not in figure_page(figure)


def test_a_figure_without_a_title_or_a_style_has_a_page() -> None:
    assert "<title>Figure</title>" in figure_page(go.Figure(go.Scatter(x=[1], y=[2])))
