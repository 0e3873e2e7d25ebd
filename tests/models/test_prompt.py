import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from llm_ctr_pipeline.models.prompt import PromptTokens, build_small_tokenizer, tokenize_prompt

PROJECT = Path(__file__).parents[2]
QWEN3_TOKENIZER = Path(
    os.environ.get("QWEN3_TOKENIZER", PROJECT.parent / "shared" / "qwen3-tokenizer")
)
TEXT = "Based on the user's browsing, answer with 1 for click or 0 for no click:"


def default_prompt() -> str:
    parameters = yaml.safe_load((PROJECT / "conf/base/parameters_train.yml").read_text())
    prompt: str = parameters["model"]["prompt"]
    return prompt


def test_rows_in_use_are_distinct_and_ascending() -> None:
    assert PromptTokens((7, 3, 7), (9,), (3, 1)).used == (1, 3, 7, 9)


def test_the_same_text_gives_the_same_tokenizer() -> None:
    first, second = (build_small_tokenizer(TEXT, 512) for _ in range(2))
    other = build_small_tokenizer(TEXT + " more", 512)
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()
    assert first.backend_tokenizer.to_str() != other.backend_tokenizer.to_str()


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_builds_the_same_tokenizer(hash_seed: str) -> None:
    code = (
        "import sys; from llm_ctr_pipeline.models.prompt import build_small_tokenizer as build;"
        "sys.stdout.write(build(sys.argv[1], 512).backend_tokenizer.to_str())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    finished = subprocess.run(
        [sys.executable, "-c", code, TEXT],
        capture_output=True,
        check=True,
        encoding="utf-8",
        env=environment,
    )
    assert finished.stdout == build_small_tokenizer(TEXT, 512).backend_tokenizer.to_str()


def test_the_prompt_takes_about_a_token_a_word() -> None:
    prompt = default_prompt()
    tokens = tokenize_prompt(build_small_tokenizer(prompt, 512), prompt, "")
    words = len(prompt.split())
    assert words <= len(tokens.prompt) <= 1.3 * words


@pytest.mark.parametrize("text", ["Überraschung: 点击? 🙂\t\n", "\x00 no such words", "z" * 50, ""])
def test_any_other_text_encodes_and_comes_back(text: str) -> None:
    tokenizer = build_small_tokenizer(TEXT, 512)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("vocab_size", [258, 300, 512])
def test_the_small_tokenizer_keeps_to_its_size(vocab_size: int) -> None:
    tokenizer = build_small_tokenizer(TEXT, vocab_size)
    assert 256 <= len(tokenizer) <= vocab_size
    assert max(tokenizer(TEXT)["input_ids"]) < len(tokenizer)


@pytest.mark.parametrize("text", [TEXT, "no digits here", "0101 1010 10 01 00 11 01 10"])
def test_each_answer_is_one_token(text: str) -> None:
    tokenizer = build_small_tokenizer(text, 512)
    answers = tokenize_prompt(tokenizer, text, "").answers
    assert [tokenizer.decode([answer]) for answer in answers] == ["0", "1"]


def test_prompt_and_suffix_are_tokenized_apart() -> None:
    tokenizer = build_small_tokenizer(TEXT, 512)
    tokens = tokenize_prompt(tokenizer, TEXT, " or click")
    assert tokenizer.decode(list(tokens.prompt)) == TEXT
    assert tokenizer.decode(list(tokens.suffix)) == " or click"
    assert tokenize_prompt(tokenizer, TEXT, "").suffix == ()


def test_a_tokenizers_opening_token_comes_before_the_prompt_alone() -> None:
    tokenizer = build_small_tokenizer(TEXT, 512)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.add_bos_token = True
    tokens = tokenize_prompt(tokenizer, TEXT, " or")
    assert tokenizer.convert_ids_to_tokens(list(tokens.prompt))[0] == "<s>"
    assert tokenizer.bos_token_id not in (*tokens.prompt[1:], *tokens.suffix, *tokens.answers)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="the prompt '' has no token: give the model some text"):
        tokenize_prompt(build_small_tokenizer(TEXT, 512), "", " suffix")


def space_before(kind: str, scheme: str, corpus: str) -> PreTrainedTokenizerFast:
    """A tokenizer that puts a space before a text's first word, as SentencePiece does."""
    special = {"special_tokens": ["<unk>"], "show_progress": False}
    if kind == "bpe":  # Llama 2's and Mistral's
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))  # noqa: S106
        trainer = trainers.BpeTrainer(vocab_size=80, **special)
    else:  # T5's and XGLM's
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(vocab_size=60, unk_token="<unk>", **special)  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=kind != "bpe")
    tokenizer.train_from_iterator([corpus] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")  # noqa: S106


@pytest.mark.parametrize("suffix", ["", "Answer:", " click?"])
@pytest.mark.parametrize("scheme", ["always", "first"])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_an_answer_is_the_token_that_goes_on_with_the_text(
    kind: str, scheme: str, suffix: str
) -> None:
    tokenizer = space_before(kind, scheme, TEXT + " a0 b1 10 01 click?")
    tokens = tokenize_prompt(tokenizer, TEXT, suffix)
    assert tokenizer.convert_ids_to_tokens(list(tokens.answers)) == ["0", "1"]


def test_where_text_and_answer_grow_together_the_answer_is_taken_by_itself() -> None:
    tokenizer = build_small_tokenizer("answer 10 or 11 " * 3, 300)
    assert tokenizer.tokenize("answer 10")[-1] == "\u012010"
    tokens = tokenize_prompt(tokenizer, "answer 1", "")
    assert tokenizer.convert_ids_to_tokens(list(tokens.answers)) == ["0", "1"]


def test_a_tokenizer_that_splits_an_answer_is_refused() -> None:
    vocabulary = {"[UNK]": 0, "\u2581": 1, "<0x30>": 2, "<0x31>": 3, "a": 4, "<0x0A>": 5}
    splitting = Tokenizer(models.BPE(vocabulary, [], unk_token="[UNK]", byte_fallback=True))  # noqa: S106
    splitting.normalizer = normalizers.Replace("0", "0\n")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=splitting)
    with pytest.raises(
        ValueError, match=r'splits the answer "0" into 2 tokens \[2, 5\]; .* choose'
    ):
        tokenize_prompt(tokenizer, "a", "")


@pytest.mark.parametrize("known", [{}, {"0": 2}])
def test_a_tokenizer_that_does_not_know_the_answers_is_refused(known: dict[str, int]) -> None:
    vocabulary = {"[UNK]": 0, "a": 1, **known}
    of_words = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    of_words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=of_words, unk_token="[UNK]")  # noqa: S106
    with pytest.raises(ValueError, match="does not know the answers 0 and 1, it gives them"):
        tokenize_prompt(tokenizer, "a", "")


@pytest.mark.skipif(
    not QWEN3_TOKENIZER.is_dir(), reason=f"no tokenizer of Qwen3's at {QWEN3_TOKENIZER}"
)
def test_the_default_prompt_with_qwen3s_own_tokenizer() -> None:
    tokens = tokenize_prompt(AutoTokenizer.from_pretrained(QWEN3_TOKENIZER), default_prompt(), "")
    assert len(tokens.prompt) == 34
    assert tokens.answers == (15, 16)
    assert len(tokens.used) <= 36
