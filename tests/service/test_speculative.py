"""vLLM's --speculative-config becomes our own settings, or is refused by the name of what is wrong."""

import json

import pytest

from service.settings import SettingsError, load_settings
from service.speculative import settings_of


def test_n_grams_are_ours() -> None:
    config = '{"method": "ngram", "num_speculative_tokens": 5}'
    settings = load_settings({"speculative_config": config})
    assert (settings.speculate, settings.proposers) == (5, ("grammar", "ngram"))
    assert settings.sources["speculate"] == "the command line"


def test_medusa_names_its_heads() -> None:
    settings = load_settings({"speculative_config": '{"method": "medusa", "model": "some/heads"}'})
    assert (settings.heads, settings.proposers) == ("some/heads", ("grammar", "ngram", "heads"))


@pytest.mark.parametrize("told", ['{"model": "small"}', '{"method": "draft_model", "model": "small"}'])
def test_a_draft_model_is_named(told: str) -> None:
    settings = load_settings({"speculative_config": told})
    assert (settings.draft_model, settings.proposers) == ("small", ("grammar", "ngram"))


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"method": "eagle3"}, "eagle3"),
        ({}, "None"),
        ({"method": "ngram", "prompt_lookup_max": 4}, "prompt_lookup_max"),
        ({"method": "ngram", "model": "x"}, "model"),
        ({"method": "ngram", "draft_tensor_parallel_size": 2}, "draft_tensor_parallel_size"),
        ([], "object"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(told: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        settings_of(json.dumps(told))


def test_the_start_stops_on_what_is_wrong_or_said_twice() -> None:
    with pytest.raises(SettingsError, match="speculative_config"):
        load_settings({"speculative_config": "{"})
    with pytest.raises(SettingsError, match="say the same"):
        load_settings({"speculative_config": '{"method": "ngram"}', "speculate_with": "grammar"})
    with pytest.raises(SettingsError, match="speculate"):
        load_settings({"speculative_config": '{"method": "ngram", "num_speculative_tokens": 1000}'})
    with pytest.raises(SettingsError, match="oracle"):
        load_settings({"speculate_with": "grammar,oracle"})


def test_tgis_variable_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECULATE", "3")
    assert load_settings().speculate == 3
