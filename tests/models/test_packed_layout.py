import torch

from llm_ctr_pipeline.models.packed_layout import PackedLayout


def test_every_row_goes_on_where_the_prompt_ends() -> None:
    layout = PackedLayout(prompt_length=3, row_length=2, rows=2)
    assert layout.positions(torch.device("cpu")).tolist() == [[0, 1, 2, 3, 4, 3, 4]]
    assert (layout.context_length, layout.packed_length) == (5, 7)


def test_the_last_token_of_each_row_is_found() -> None:
    layout = PackedLayout(prompt_length=4, row_length=3, rows=2)
    packed_1NH = torch.arange(10.0)[None, :, None]
    assert layout.last_tokens(packed_1NH).flatten().tolist() == [6, 9]
    both = layout.last_tokens((packed_1NH, -packed_1NH))
    assert [part.flatten().tolist() for part in both] == [[6, 9], [-6, -9]]


def test_a_row_sees_the_prompt_and_itself_causally() -> None:
    layout = PackedLayout(prompt_length=3, row_length=2, rows=2)
    assert layout.visible(torch.device("cpu")).int().tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    packed_1KNC = torch.arange(7.0)[None, None, :, None]
    seen = layout.seen_by_rows(packed_1KNC).flatten(1).tolist()
    assert seen == [[0, 1, 2, 3, 4], [0, 1, 2, 5, 6]]


def test_prompt_and_rows_come_apart_and_together_again() -> None:
    layout = PackedLayout(prompt_length=3, row_length=2, rows=2)
    packed_1HNC = torch.arange(28.0).view(1, 2, 7, 2)
    (prompt_1HPC, *_), (rows_BHTC, *_) = layout.split(packed_1HNC, packed_1HNC, packed_1HNC)
    packed_1NHC = layout.pack(prompt_1HPC.transpose(1, 2), rows_BHTC.transpose(1, 2))
    assert torch.equal(packed_1NHC, packed_1HNC.transpose(1, 2))
