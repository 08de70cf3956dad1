"""Settings: one table, read from the environment, strict."""

from pathlib import Path

import pytest

from service.aliases import ALIASES, IDLE
from service.settings import PREFIX, Settings, SettingsError, load_settings
from service.table import table


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


def test_a_file_is_weaker_than_the_environment_and_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "formwork.toml"
    file.write_text('port = 1\nhost = "::1"\nmax-n = 7\napi_keys = ["a", "b"]\nprefix_sharing = false\n')
    monkeypatch.setenv("FORMWORK_HOST", "0.0.0.0")
    settings = load_settings({"port": 3}, str(file))
    assert (settings.port, settings.host, settings.max_n, settings.prefix_sharing) == (3, "0.0.0.0", 7, False)
    assert settings.keys == ("a", "b")
    assert settings.sources["port"] == "the command line"
    assert settings.sources["host"] == "FORMWORK_HOST"
    assert settings.sources["max_n"] == str(file)
    monkeypatch.setenv("FORMWORK_CONFIG", str(file))
    assert load_settings().max_n == 7


@pytest.mark.parametrize("text", ["prot = 1", "port = 99999", "port =", 'host = "\ud800"'])
def test_a_wrong_file_stops_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "formwork.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(SettingsError, match=r"formwork\.toml"):
        load_settings(None, str(file))


def test_tgis_variables_are_read_after_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_TOTAL_TOKENS", "2048")
    monkeypatch.setenv("MAX_BEST_OF", "3")
    monkeypatch.setenv("FORMWORK_MAX_N", "5")
    monkeypatch.setenv("HOSTNAME", "a-container")
    settings = load_settings()
    assert (settings.max_model_len, settings.max_n, settings.host) == (2048, 5, "127.0.0.1")
    assert settings.sources["max_model_len"] == "MAX_TOTAL_TOKENS"


def test_a_wrong_variable_is_named_as_it_was_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTIZE", "gptx")
    with pytest.raises(SettingsError, match="QUANTIZE"):
        load_settings()


def test_schemes_have_tgis_names_and_the_one_that_is_not_served_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("awq", "compressed-tensors", "eetq", "gptq", "marlin", "fp8"):
        monkeypatch.setenv("QUANTIZE", name)
        assert load_settings().quantize == name
    for name in ("bitsandbytes", "bitsandbytes-nf4", "bitsandbytes-fp4"):
        assert load_settings({"quantize": name}).quantize == name
    monkeypatch.setenv("QUANTIZE", "exl2")
    with pytest.raises(SettingsError, match="exl2 is not served"):
        load_settings()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"cluster": "auto"}, "cluster"),
        ({"max_replicas": 3}, "max_replicas"),
        ({"replicas": 2, "keep_replicas": True}, "keep_replicas"),
        ({"replicas": 3, "max_replicas": 2}, "max_replicas"),
    ],
)
def test_settings_of_a_fleet_that_would_not_happen_are_refused(flags: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=f"setting {named}"):
        load_settings(flags)


def test_aliases_are_of_settings_and_unique() -> None:
    assert set(ALIASES) <= set(Settings.model_fields)
    own = {name.replace("_", "-") for name in Settings.model_fields}
    flags = [flag for alias in ALIASES.values() for flag in alias.flags]
    variables = [variable for alias in ALIASES.values() for variable in alias.variables]
    assert len({*own, *flags, *IDLE}) == len(own) + len(flags) + len(IDLE)
    assert len(set(variables)) == len(variables)


def test_the_documented_table_is_the_codes() -> None:
    assert Path("docs/settings.md").read_text("utf-8") == table()


def test_every_setting_is_described_and_has_the_prefix() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert Settings.model_config["env_prefix"] == PREFIX
