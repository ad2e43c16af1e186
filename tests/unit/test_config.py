"""What a file and the environment come to, and what is said of one that cannot be used."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config import Client, Configuration, Route, TokenPrices, early, load
from gateway.errors import ConfigurationError

KEY = {"OPENAI_API_KEY": "sk-test"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str, environ: dict[str, str] | None = None) -> Configuration:
    """`text` as the only configuration file."""
    path = Path("gateway.toml")
    path.write_text(text, encoding="utf-8")
    return load(path, KEY if environ is None else environ)


def mistakes(text: str, environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong with `text`."""
    with pytest.raises(ConfigurationError) as error:
        read(text, environ)
    return list(error.value.mistakes)


def test_without_a_file_openai_works_out_of_the_box() -> None:
    """With nothing but a key in the environment there is a provider, and every model goes to it."""
    configuration = load(None, KEY)

    assert configuration.source is None
    assert configuration.providers["openai"].settings["api_key"] == "sk-test"
    assert configuration.providers["openai"].missing_variables == ()
    assert configuration.routes == (Route(model="*", provider="openai"),)


def test_a_file_in_the_working_directory_is_found() -> None:
    """`./config.toml` is read when no file is named."""
    Path("config.toml").write_text("[server]\nport = 1234\n", encoding="utf-8")

    assert load(None, KEY).server.port == 1234


def test_values_of_every_type_are_read() -> None:
    """Text, whole numbers, fractions, flags and lists arrive as such, and a whole number may stand for a fraction."""
    configuration = read(
        """
        [server]
        host = "::1"
        port = 0
        allowed_hosts = ["gateway.internal"]
        header_seconds = 5
        [cache]
        enabled = false
        [batching]
        idle_seconds = 0.25
        """
    )

    assert configuration.server.host == "::1"
    assert configuration.server.port == 0
    assert configuration.server.allowed_hosts == ("gateway.internal",)
    assert configuration.server.header_seconds == 5.0
    assert isinstance(configuration.server.header_seconds, float)
    assert configuration.cache.enabled is False
    assert configuration.batching.idle_seconds == 0.25
    assert configuration.batching.window_seconds == 30.0


def test_all_mistakes_come_at_once() -> None:
    """One look tells everything that is wrong, each with its key and what would be right."""
    found = mistakes(
        """
        sever = 1
        [server]
        prot = 1
        port = "8484"
        max_waiters = 0
        on_disconnect = "drop"
        [cache]
        enabled = 1
        [polling]
        min_seconds = 90
        [batching]
        window_seconds = inf
        max_requests = 1.5
        [providers.openai]
        kind = 3
        limits = { max_request = 1, max_bytes = 0, max_enqueued_tokens = { "gpt-4.1" = "many" } }
        prices = { "gpt-*" = { input = -1, ouput = 2 } }
        [[routes]]
        model = ""
        provider = "opneai"
        """
    )

    assert [line.split(":")[0] for line in found] == [
        "sever",
        "server.prot",
        "server.port",
        "server.max_waiters",
        "server.on_disconnect",
        "cache.enabled",
        "batching.window_seconds",
        "batching.max_requests",
        "providers.openai.kind",
        "providers.openai.limits.max_request",
        "providers.openai.limits.max_bytes",
        "providers.openai.limits.max_enqueued_tokens.gpt-4.1",
        'providers.openai.prices."gpt-*".ouput',
        'providers.openai.prices."gpt-*".output',
        'providers.openai.prices."gpt-*".input',
        "routes[0].model",
        "routes[0].provider",
        "polling.max_seconds",
    ]
    assert "did you mean port?" in found[1]
    assert "did you mean server?" in found[0]
    assert '"keep" or "cancel"' in found[4]


@pytest.mark.parametrize("text", ["[server", "[server]\nport = 1\nport = 2", "\udcff"])
def test_a_file_that_is_not_toml_says_where(text: str) -> None:
    """A file that cannot be parsed is one mistake that names the file."""
    Path("gateway.toml").write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(ConfigurationError, match=r"gateway\.toml: is not TOML"):
        load(Path("gateway.toml"), KEY)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[server]\nport = true", "server.port"),
        ("[waiting]\ngrace_seconds = false", "waiting.grace_seconds"),
        ("[waiting]\ngrace_seconds = nan", "waiting.grace_seconds"),
        ("[batching]\nwindow_seconds = 60\nmax_window_seconds = 30", "batching.max_window_seconds"),
        ("[server]\nhost = 127", "server.host"),
        ("[server]\nallowed_hosts = 'a'", "server.allowed_hosts"),
        ("[server]\nallowed_hosts = [1]", "server.allowed_hosts"),
        ("server = 1", "server"),
        ("providers = 1", "providers"),
        ("clients = [1]", "clients"),
        ("[providers]\na = 1", "providers.a"),
        ("[providers.a]\nkind = 'x'\nlimits = 1", "providers.a.limits"),
        ("[providers.a]\nkind = 'x'\nprices = 1", "providers.a.prices"),
        ("[providers.a]\nkind = 'x'\nprices = { m = 1 }", 'providers.a.prices."m"'),
        ("[providers.a]\nkind = 'x'\nsandbox = 'yes'", "providers.a.sandbox"),
    ],
)
def test_a_value_of_the_wrong_kind_is_one_mistake(text: str, key: str) -> None:
    """A flag is no number, a number no text, a value no table, and what must be ordered is."""
    assert [line.split(":")[0] for line in mistakes(text)] == [key]


def test_a_file_that_is_not_there_is_a_mistake() -> None:
    """A file that was asked for by name is not silently done without."""
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: cannot be read"):
        load(Path("nowhere.toml"), KEY)


def test_early_agrees_with_load() -> None:
    """What the port is bound and the ledger locked with is what the whole configuration says later."""
    environ = {**KEY, "BATCHWAY_SERVER__PORT": "9000", "DISK": "state"}
    Path("gateway.toml").write_text(
        '[server]\nhost = "localhost"\n[storage]\ndirectory = "${DISK}"\n[cache]\nnonsense = 1\n', encoding="utf-8"
    )
    server, storage = early(Path("gateway.toml"), environ)
    Path("gateway.toml").write_text(
        '[server]\nhost = "localhost"\n[storage]\ndirectory = "${DISK}"\n', encoding="utf-8"
    )
    whole = load(Path("gateway.toml"), environ)

    assert (server, storage) == (whole.server, whole.storage)
    assert (server.host, server.port, storage.directory) == ("localhost", 9000, Path("state"))


def test_early_refuses_what_cannot_be_bound() -> None:
    """A port that cannot be is a mistake before anything is bound."""
    with pytest.raises(ConfigurationError, match=r"server\.port: must be at most 65535"):
        early(None, {"BATCHWAY_SERVER__PORT": "70000"})


def test_early_loads_nothing_heavy() -> None:
    """The port is bound before pydantic, aiohttp and the like are there, so that callers are kept waiting, not refused."""
    program = (
        "import sys; from gateway.config import early; early(None, {}); "
        "print(sorted({'pydantic', 'aiohttp', 'asyncio', 'openai', 'structlog', 'pluggy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_a_relative_directory_lies_beside_the_file() -> None:
    """Every command finds the same ledger from wherever it is run; a directory from the environment is where it says."""
    Path("etc").mkdir()
    Path("etc/gateway.toml").write_text('[storage]\ndirectory = "state"\n', encoding="utf-8")

    assert load(Path("etc/gateway.toml"), KEY).storage.directory == Path("etc/state")
    assert load(Path("etc/gateway.toml"), {"BATCHWAY_STORAGE__DIRECTORY": "here"}).storage.directory == Path("here")
    assert load(None, KEY).storage.directory == Path("data")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gateway.internal", "127.evil.com", ""])
def test_nobody_is_let_in_from_outside_without_keys(host: str) -> None:
    """Listening where other machines can reach is refused until there are clients with keys."""
    exposed = f'[server]\nhost = "{host}"\n'
    keyed = exposed + '[[clients]]\nname = "a"\nkey = "k"\n'

    assert [line.split(":")[0] for line in mistakes(exposed)] == ["server.host"]
    assert read(keyed).server.host == host
    with pytest.raises(ConfigurationError, match=r"server\.host"):
        early(None, {"BATCHWAY_SERVER__HOST": host})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_this_machine_alone_needs_no_keys(host: str) -> None:
    """Loopback addresses need no clients."""
    assert read(f'[server]\nhost = "{host}"\n').server.host == host


def test_only_hashes_of_client_keys_are_kept() -> None:
    """A key in the file and its SHA-256 in the file are the same client, and neither shows in the configuration."""
    digest = hashlib.sha256(b"s3cret-key").digest()
    plain = read('[[clients]]\nname = "a"\nkey = "${KEY_A}"\n', {"KEY_A": "s3cret-key"})
    hashed = read(f'[[clients]]\nname = "a"\nkey = "sha256:{digest.hex()}"\n')

    assert plain.clients == hashed.clients == (Client(name="a", key_hash=digest),)
    assert "s3cret-key" not in repr(plain)
    assert digest.hex() not in repr(plain)


def test_clients_that_cannot_be_told_apart_are_refused() -> None:
    """Two clients of one name or one key, a missing key, a broken hash and a variable that is not set are mistakes."""
    found = mistakes(
        """
        clients = [
            { name = "a", key = "one" },
            { name = "a", key = "two" },
            { name = "b", key = "one" },
            { name = "c" },
            { name = "d", key = "sha256:1234" },
            { name = "e", key = "${NOT_THERE}", kee = "x" },
        ]
        """
    )

    assert [line.split(":")[0] for line in found] == [
        "clients[5].key",
        "clients[1].name",
        "clients[2].key",
        "clients[3].key",
        "clients[4].key",
        "clients[5].kee",
        "clients[5].key",
    ]
    assert "NOT_THERE is not set" in found[0]
    assert not any("one" in line.split(": ", 1)[1].split() for line in found)


def test_a_providers_own_keys_are_kept_for_its_kind() -> None:
    """Core reads its own keys of a provider's table and hands the rest on, variables replaced."""
    provider = read(
        """
        [providers.main]
        kind = "openai-compatible"
        account = "acme"
        sandbox = true
        api_key = "${KEY}"
        drop_fields = ["seed"]
        headers = { "x-org" = "${ORG}" }
        [providers.main.limits]
        max_requests = 10
        max_enqueued_tokens = { "gpt-4.1" = 1000 }
        min_poll_seconds = 0.5
        [providers.main.prices."gpt-*"]
        input = 1
        output = 4.0
        """,
        {"KEY": "k", "ORG": "o"},
    ).providers["main"]

    assert (provider.kind, provider.account, provider.sandbox) == ("openai-compatible", "acme", True)
    assert provider.settings == {"api_key": "k", "drop_fields": ["seed"], "headers": {"x-org": "o"}}
    assert provider.limits == {"max_requests": 10, "max_enqueued_tokens": {"gpt-4.1": 1000}, "min_poll_seconds": 0.5}
    assert provider.prices == {"gpt-*": TokenPrices(input=1.0, cached=1.0, output=4.0)}


def test_a_missing_provider_key_stops_nothing() -> None:
    """A provider whose variable is not set, or empty, is kept with the variable's name; the rest goes on."""
    text = """
        [providers.a]
        kind = "openai"
        api_key = "${A_KEY}"
        organization = "${ORG}-${A_KEY}"
        [providers.b]
        kind = "openai"
        api_key = "${B_KEY}"
        """
    providers = read(text, {"B_KEY": "b", "ORG": ""}).providers

    assert providers["a"].missing_variables == ("A_KEY", "ORG")
    assert providers["b"].missing_variables == ()


def test_two_providers_get_no_route_by_themselves() -> None:
    """Where there is a choice of providers, only configured routes choose."""
    assert read('[providers.a]\nkind = "x"\n[providers.b]\nkind = "x"\n').routes == ()


@pytest.mark.parametrize("name", ["a/b", "", "-a", "a b", "x" * 65])
def test_a_providers_name_can_stand_before_a_slash(name: str) -> None:
    """A name that could not be a prefix, a header's value or a label is a mistake."""
    assert "a provider's name has" in mistakes(f'[providers."{name}"]\nkind = "x"\n')[0]


@pytest.mark.parametrize(
    "address",
    ["not a url", "ftp://x", "http://", "https:///v1", "api.openai.com/v1", "http://x:port/v1", "http://a b/v1"],
)
def test_an_address_that_no_call_can_reach_is_a_mistake(address: str) -> None:
    """Without http(s) and a host, `base_url` and `sandbox_url` are refused with what they should look like."""
    text = f'[providers.a]\nkind = "x"\nbase_url = "{address}"\nsandbox_url = "{address}"\n'

    found = mistakes(text)
    assert [line.partition(":")[0] for line in found] == ["providers.a.base_url", "providers.a.sandbox_url"]
    assert all('like "https://' in line for line in found)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8000/v1", "https://user:pw@host/v1", "http://[::1]:80", ""])
def test_an_address_is_taken_as_it_is(address: str) -> None:
    """Ports, numbers, users and an empty address, which is the kind's own, are no mistakes."""
    table = read(f'[providers.a]\nkind = "x"\nbase_url = "{address}"\n').providers["a"]
    assert table.settings["base_url"] == address


def test_an_address_with_a_missing_variable_is_no_mistake() -> None:
    """What disables a provider does not keep the others from starting."""
    table = read('[providers.a]\nkind = "x"\nbase_url = "http://${NO_SUCH_HOST}:80"\n').providers["a"]
    assert table.missing_variables == ("NO_SUCH_HOST",)


def test_secrets_are_known_and_never_shown() -> None:
    """Values of keys that are called key, token, secret or password are known to the log, and not part of any repr."""
    configuration = read(
        """
        [storage]
        ledger = "postgresql://me:pa55word@host/db"
        [providers.a]
        kind = "x"
        api_key = "k-123456"
        access_token = "t-123456"
        base_url = "http://localhost"
        """
    )

    assert set(configuration.secrets) == {"k-123456", "t-123456"}
    assert not [secret for secret in ("k-123456", "t-123456", "pa55word") if secret in repr(configuration)]


def test_a_secret_is_not_repeated_in_a_mistake() -> None:
    """A wrong value of a secret key is called wrong without being shown."""
    found = mistakes('[storage]\nledger = 12345678\n[[clients]]\nname = "a"\nkey = 87654321\n')

    assert len(found) == 2
    assert not any("12345678" in line or "87654321" in line for line in found)
