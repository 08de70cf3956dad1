"""The bundled model's tokenizer: byte-level BPE in which a word is the same tokens wherever it stands.

What it is for: training `tokenizer.json` from the made texts. What may not enter: the model, the tasks.

The idea: copying a name from prose into JSON is easy for a small model iff the name is the same token sequence in both
places. So letters never share a token with what is around them (no leading blanks, no quotes), and each digit is a
token; what lies between words (blanks, punctuation, JSON's structure such as `", "`) is merged among itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY_SIZE = 4096
PADDING, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
MAX_POSITIONS = 4096

_WORD_DIGIT_GAP = r"\p{L}[\p{L}\p{M}]*|\p{N}|[^\p{L}\p{N}]+"


def train_tokenizer(texts: Iterable[str], chat_template: str) -> PreTrainedTokenizerFast:
    """A tokenizer of `VOCABULARY_SIZE` tokens, all 256 bytes among them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD_DIGIT_GAP), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PADDING, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
        max_token_length=12,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers types it not
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        chat_template=chat_template,
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )
