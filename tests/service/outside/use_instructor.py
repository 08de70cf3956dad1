"""instructor's ordinary jobs against a server: `python use_instructor.py URL`. It ends without an exception, or fails.

It asks for an older jiter than openai does, so it runs in an environment of its own (tests/service/test_clients.py).
"""

import sys

import instructor
import openai
from pydantic import BaseModel, Field


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=40)
    age: int = Field(ge=0, le=150)


def main(url: str) -> None:
    messages = [{"role": "user", "content": "Extract the person: Maria Silva is 34 years old and lives in Porto."}]
    asked = {"model": "default", "messages": messages, "max_tokens": 96, "max_retries": 0}
    # Its JSON mode asks for any object and hopes for the right one: nothing of ours to test.
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        client = instructor.from_openai(openai.OpenAI(base_url=f"{url}/v1", api_key="unused"), mode=mode)
        person = client.chat.completions.create(response_model=Person, **asked)
        assert isinstance(person, Person), person
        *_, last = client.chat.completions.create_partial(response_model=Person, **asked)
        assert 0 <= last.age <= 150, last


if __name__ == "__main__":
    main(sys.argv[1])
