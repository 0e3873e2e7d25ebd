"""The text around the feature tokens: prompt, optional suffix, and the two answers."""

from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llm_ctr_pipeline.data.errors import SettingsError

ANSWERS = ("0", "1")


@dataclass(frozen=True)
class PromptTokens:
    """Token ids of the fixed text.

    Attributes:
        prompt: Ids before the feature tokens, at least one.
        suffix: Ids after the feature tokens; empty by default.
        answers: Ids of "0" and "1".
    """

    prompt: tuple[int, ...]
    suffix: tuple[int, ...]
    answers: tuple[int, int]

    @property
    def used(self) -> tuple[int, ...]:
        """The vocabulary rows in use, ascending: all others can get no gradient."""
        return tuple(sorted({*self.prompt, *self.suffix, *self.answers}))


def tokenize_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str, suffix: str) -> PromptTokens:
    """Tokenize the prompt, the suffix and the two answers.

    Args:
        tokenizer: The language model's tokenizer. It adds to the prompt the special tokens that
            its model expects at the start of a text, if any.
        prompt: Text before the feature tokens.
        suffix: Text after the feature tokens, may be empty.

    Raises:
        SettingsError: The prompt has no token, or an answer is not a single token of its own.
    """
    prompt_ids = tokenizer(prompt)["input_ids"]
    if not prompt_ids:
        raise SettingsError(f"the prompt {prompt!r} has no token: give the model some text to read")
    answers = _answer_ids(tokenizer, suffix or prompt)
    for answer, ids in zip(ANSWERS, answers, strict=True):
        if len(ids) != 1:
            raise SettingsError(
                f'the tokenizer splits the answer "{answer}" into {len(ids)} tokens {ids}; the '
                "model answers with one token, so choose a language model that has it whole"
            )
    if answers[0] == answers[1] or tokenizer.unk_token_id in (answers[0][0], answers[1][0]):
        raise SettingsError(
            f"the tokenizer does not know the answers {' and '.join(ANSWERS)}, it gives them the "
            f"tokens {answers[0][0]} and {answers[1][0]}: choose a language model that has them"
        )
    suffix_ids = tokenizer(suffix, add_special_tokens=False)["input_ids"]
    return PromptTokens(tuple(prompt_ids), tuple(suffix_ids), (answers[0][0], answers[1][0]))


def _answer_ids(tokenizer: PreTrainedTokenizerBase, before: str) -> list[list[int]]:
    """Tokenize the answers as what goes on with a text.

    By themselves they would be words at the start of a text, before which some tokenizers put a
    space. Where a text and an answer grow together into other tokens, they are taken by themselves.
    """

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    context = encode(before)
    continued = [encode(before + answer) for answer in ANSWERS]
    if all(ids[:-1] == context for ids in continued):
        return [ids[-1:] for ids in continued]
    return [encode(answer) for answer in ANSWERS]


def build_small_tokenizer(text: str, vocab_size: int) -> PreTrainedTokenizerFast:
    """Make a byte-level BPE tokenizer from the prompt itself.

    It serves the small language model with random weights, which has no tokenizer to bring: every
    text can be encoded, the prompt's own words in about one token each. The same text gives the
    same tokenizer.

    Args:
        text: Text to learn merges from.
        vocab_size: Largest number of tokens; the 256 bytes are always among them.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
