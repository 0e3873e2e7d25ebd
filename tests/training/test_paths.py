from llm_ctr_pipeline.training.paths import PATHS, in_two_phases


def test_the_two_phase_paths_are_told_from_the_others() -> None:
    assert [path for path in PATHS if in_two_phases(path)] == ["two_phase", "two_phase_finetuned"]
