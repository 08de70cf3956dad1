"""The ordinary jobs of TGI's own client against a server: `python use_text_generation.py URL`.

It asks for an older huggingface_hub than transformers does, so it runs in an environment of its own
(tests/service/test_clients.py). It ends without an exception, or fails.
"""

import asyncio
import json
import sys
from contextlib import suppress

from text_generation import AsyncClient, Client
from text_generation.errors import ValidationError
from text_generation.types import Grammar, GrammarType

TEXT = "Maria Silva is 34 years old and lives in Porto."
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 30}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def checked(text: str) -> None:
    value = json.loads(text)
    assert set(value) == {"name", "age"}, value
    assert isinstance(value["age"], int), value


def main(url: str) -> None:
    client = Client(url, timeout=120)
    grammar = Grammar(type=GrammarType.Json, value=SCHEMA)
    answer = client.generate(TEXT, max_new_tokens=96, grammar=grammar)
    checked(answer.generated_text)
    assert answer.details.finish_reason == "eos_token", answer.details
    parts = list(client.generate_stream(TEXT, max_new_tokens=96, grammar=grammar))
    checked(parts[-1].generated_text)
    assert "".join(part.token.text for part in parts if not part.token.special) == parts[-1].generated_text
    best = client.generate(TEXT, max_new_tokens=8, best_of=2, do_sample=True, decoder_input_details=True)
    assert len(best.details.best_of_sequences) == 1, best.details
    assert best.details.prefill, best.details
    top = client.generate(TEXT, max_new_tokens=4, top_n_tokens=3)
    assert all(len(each) == 3 for each in top.details.top_tokens), top.details
    word = client.generate(TEXT, max_new_tokens=8, grammar=Grammar(type=GrammarType.Regex, value="(yes|no)"))
    assert word.generated_text in {"yes", "no"}, word
    with suppress(ValidationError):
        client.generate(TEXT, max_new_tokens=10**6)
        raise AssertionError("a budget over the context was taken")
    chat = client.chat([{"role": "user", "content": TEXT}], max_tokens=16)
    assert chat.choices[0].message.role == "assistant", chat
    later = asyncio.run(AsyncClient(url, timeout=120).generate(TEXT, max_new_tokens=4))
    assert later.details.generated_tokens <= 4, later


if __name__ == "__main__":
    main(sys.argv[1])
