"""Settings: one table, read from the environment, strict."""

import pytest

from service.settings import PREFIX, Settings, SettingsError, load_settings


def test_the_environment_is_read_and_flags_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORMWORK_PORT", "9000")
    monkeypatch.setenv("FORMWORK_HOST", "0.0.0.0")
    settings = load_settings({"port": 9001, "host": None})
    assert (settings.port, settings.host) == (9001, "0.0.0.0")


def test_an_empty_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORMWORK_API_KEYS", "")
    assert load_settings().keys == ()


def test_an_unknown_variable_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORMWORK_PROT", "9000")
    with pytest.raises(SettingsError, match="FORMWORK_PROT"):
        load_settings()


def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORMWORK_PORT", "high")
    with pytest.raises(SettingsError, match="FORMWORK_PORT"):
        load_settings()


def test_secrets_do_not_show() -> None:
    settings = Settings(api_keys="secret-key", watermark_keys="a:00112233445566778899aabbccddeeff")
    assert "secret-key" not in repr(settings)
    assert "0011" not in repr(settings)


def test_the_model_is_named_by_its_folder_unless_told() -> None:
    assert Settings(model="models/formwork-mini/").model_names == ("formwork-mini",)
    assert Settings(served_model_name="a, b").model_names == ("a", "b")


def test_every_setting_is_described_and_has_the_prefix() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert Settings.model_config["env_prefix"] == PREFIX
