"""How stores are reached: settings, what is printed, and which errors there are."""

import os
import socket
import subprocess
import sys
import time
import traceback

import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope._stores import settings
from jscope._stores.errors import store_error
from jscope._stores.paths import located
from jscope._stores.store import store_of

SECRET = "secret-of-this-test"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def url(s3, tmp_path):
    js.Saver(tmp_path / "local").save({"w": jnp.arange(3)}, 1)
    s3.put(tmp_path / "local", "run")
    return s3.url("run")


@pytest.fixture
def few_retries(monkeypatch):
    """Two attempts, at once; contexts with other retries are not kept."""
    retries = {"max_retries": 2, "initial_delay": "1ms", "max_delay": "1ms"}
    monkeypatch.setattr(settings, "_RETRIES", retries)
    for cached in (settings._context_of, settings._opened_by_spec):
        cached.cache_clear()
    yield
    for cached in (settings._context_of, settings._opened_by_spec):
        cached.cache_clear()


def run(url, **variables):
    """Read in a process of its own, in an environment without settings but these."""
    code = (
        "import sys, jscope as js\n"
        "try: print(js.load_variable(sys.argv[1], 'w'))\n"
        "except js.CheckpointError as error: print(error)"
    )
    return run_code(code, url, **variables)


def run_code(code, *arguments, **variables):
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


def endpoint():
    return os.environ["AWS_ENDPOINT_URL_S3"]


# Settings.


def test_keys_in_the_environment_are_enough_and_nothing_is_printed(url, tmp_path):
    keys = dict(zip(KEYS, ("id", SECRET), strict=True))
    done = run(url, HOME=str(tmp_path), AWS_ENDPOINT_URL_S3=endpoint(), **keys)
    assert (done.stdout, done.stderr) == ("[0 1 2]\n", "")


def test_a_profile_is_enough_and_nothing_is_printed(url, tmp_path):
    (tmp_path / ".aws").mkdir()
    lines = f"[other]\naws_access_key_id = id\naws_secret_access_key = {SECRET}\n"
    (tmp_path / ".aws" / "credentials").write_text(lines)
    done = run(url, HOME=str(tmp_path), AWS_ENDPOINT_URL=endpoint(), AWS_PROFILE="other")
    assert (done.stdout, done.stderr) == ("[0 1 2]\n", "")


def test_a_web_identity_prints_nothing_of_files_that_are_not_there(tmp_path):
    code = (
        "import os\n"
        "from jscope._stores.settings import opened_by_settings\n"
        "before = dict(os.environ)\n"
        "opened_by_settings('s3', 'bucket-1')\n"
        "new = set(os.environ) - set(before)\n"
        "print(*new)\n"
    )
    (tmp_path / "token").write_text("token")
    variables = {
        "HOME": str(tmp_path),
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_ROLE_ARN": "arn:aws:iam::1:role/x",
        "AWS_REGION": "us-east-1",
    }
    done = run_code(code, **variables)
    assert (done.stdout, done.stderr) == ("TENSORSTORE_S3_USE_CONDITIONAL_WRITE\n", "")


def test_without_credentials_a_private_bucket_is_an_error_that_says_so(url, tmp_path):
    done = run(url, HOME=str(tmp_path), AWS_ENDPOINT_URL_S3=endpoint())
    assert done.stderr == ""
    assert "no permission" in done.stdout
    assert "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in done.stdout


@pytest.mark.parametrize(
    ("variables", "files", "kind"),
    [
        ({KEYS[0]: "id", "AWS_PROFILE": "p"}, {}, {"type": "environment"}),
        ({}, {}, {"type": "anonymous"}),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/x"}, {}, {"type": "ecs"}),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}, {}, {"type": "default", "profile": "default"}),
        (
            {"AWS_PROFILE": "p"},
            {"config": "[profile p]\nrole_arn = arn:aws:iam::1:role/x\n"},
            {"type": "default", "profile": "p"},
        ),
        ({}, {"config": "[default]\nregion = eu-west-1\n"}, {"type": "anonymous"}),
        (
            {},
            {"config": "[default]\nsso_session = work\n"},
            {"type": "default", "profile": "default"},
        ),
        (
            {"AWS_PROFILE": "p"},
            {"config": "[profile p]\naws_access_key_id = id\n"},
            {
                "type": "profile",
                "profile": "p",
                "credentials_file": os.devnull,
                "config_file": "config",
            },
        ),
    ],
)
def test_credentials_are_those_that_amazon_s_programs_would_take(
    monkeypatch, tmp_path, variables, files, kind
):
    monkeypatch.setattr(settings, "_EC2", tmp_path / "absent")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / ".aws").mkdir()
    for name, lines in files.items():
        (tmp_path / ".aws" / name).write_text(lines)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if "config_file" in kind:
        kind = kind | {"config_file": str(tmp_path / ".aws" / "config")}
    assert settings.spec_of("s3", "b")["aws_credentials"] == kind


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A home of no settings, and none in the environment."""
    monkeypatch.setattr(settings, "_EC2", tmp_path / "absent")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / ".aws").mkdir()
    return tmp_path


def test_a_profile_that_no_file_has_is_an_error_that_lists_those_there_are(home, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "wrok")
    (home / ".aws" / "config").write_text("[default]\nregion = a\n[profile work]\nregion = b\n")
    (home / ".aws" / "credentials").write_text(f"[work]\naws_secret_access_key = {SECRET}\n")
    with pytest.raises(js.CheckpointError) as caught:
        js.Saver("s3://bucket/run").latest_step()
    assert str(caught.value) == (
        f"AWS_PROFILE is 'wrok', and the profiles in {home}/.aws/credentials and "
        f"{home}/.aws/config are 'work', 'default'. Set it to one of them, or set "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    )
    monkeypatch.setenv(KEYS[0], "id")
    assert settings.spec_of("s3", "b")["aws_credentials"] == {"type": "environment"}


def test_server_and_region_of_the_profile_are_used_unless_the_environment_has_them(
    home, monkeypatch
):
    config = home / ".aws" / "config"
    config.write_text("[profile p]\nregion = eu-west-1\nendpoint_url = http://host:1/\n")
    monkeypatch.setenv("AWS_PROFILE", "p")
    spec = settings.spec_of("s3", "b")
    assert (spec["endpoint"], spec["aws_region"]) == ("http://host:1", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://other")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    spec = settings.spec_of("s3", "b")
    assert (spec["endpoint"], spec["aws_region"]) == ("https://other", "us-west-2")


def test_a_server_that_is_not_a_url_is_an_error_that_says_which_setting_it_is(home, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(js.CheckpointError) as caught:
        js.Saver("s3://bucket/run").latest_step()
    assert str(caught.value) == (
        "AWS_ENDPOINT_URL is 'localhost:9000', which is not a URL. Write http://host:port or "
        "https://host."
    )


@pytest.mark.parametrize("url", ["s3://user:SECRET@bucket/x", "https://user:SECRET@host/x"])
def test_a_password_in_a_url_is_not_shown(url):
    with pytest.raises(ValueError, match=r"//\.\.\.@") as caught:
        js.Saver(url)
    assert "SECRET" not in everything(caught.value)


def test_new_keys_are_used_in_a_process_that_has_read_with_others(url, monkeypatch):
    assert js.Saver(url).latest_step() == 1
    for name in KEYS:
        monkeypatch.delenv(name)
    with pytest.raises(js.CheckpointError, match="no permission"):
        js.Saver(url).latest_step()
    for name in KEYS:
        monkeypatch.setenv(name, "id")
    assert js.Saver(url).latest_step() == 1


def test_the_region_of_the_environment_signs_the_requests(monkeypatch):
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert "aws_region" not in settings.spec_of("s3", "b")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert settings.spec_of("s3", "b")["aws_region"] == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    assert settings.spec_of("s3", "b")["aws_region"] == "eu-west-2"


# Errors.


def everything(error):
    """All that a traceback of an error prints."""
    return "".join(traceback.format_exception(error))


def test_a_wrong_bucket_is_named(s3):
    with pytest.raises(js.CheckpointNotFoundError) as caught:
        js.latest_checkpoint("s3://no-such-bucket/run")
    assert str(caught.value) == (
        "s3://no-such-bucket/run/ can't be listed: there is no bucket 'no-such-bucket'. Check its "
        "name."
    )


def test_a_closed_port_is_an_error_within_half_a_minute(s3, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    begin = time.monotonic()
    with pytest.raises(js.CheckpointError) as caught:
        js.Saver(s3.url("run")).restore({"w": jnp.zeros(3)})
    assert time.monotonic() - begin < 30
    assert s3.url("run/") in str(caught.value)
    assert "Could not connect to server" in str(caught.value)
    assert "Check the network and the endpoint." in str(caught.value)


def test_a_server_that_never_answers_is_an_error(s3, monkeypatch):
    monkeypatch.setattr("jscope._stores.bucket._FIRST_ANSWER", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{silent.getsockname()[1]}")
        for _ in range(2):
            with pytest.raises(js.CheckpointError, match="no answer came in time"):
                js.load_variable(s3.url("run"), "w")


def test_a_busy_store_is_asked_again(s3, url):
    s3.fail(GET=(503, 2))
    np.testing.assert_array_equal(js.load_variable(url, "w"), [0, 1, 2])


@pytest.mark.parametrize("status", [429, 503])
def test_a_store_that_stays_busy_is_an_error_that_says_so(s3, url, few_retries, status):
    s3.fail(GET=(status, 9))
    with pytest.raises(js.CheckpointError, match="the store is busy, also after retries"):
        js.load_variable(url, "w")


def test_a_dropped_connection_is_made_again(s3, url):
    s3.fail(GET=(0, 1))
    np.testing.assert_array_equal(js.load_variable(url, "w"), [0, 1, 2])


def test_an_unreachable_store_makes_no_step_look_damaged(s3, tmp_path, few_retries, recwarn):
    local = js.Saver(tmp_path)
    for step in (1, 2):
        local.save({"w": jnp.arange(3)}, step)
    s3.put(tmp_path, "run")
    s3.fail(GET=(403, 99))
    for read in (js.Saver.latest_step, js.Saver.all_steps, js.Saver.restore, js.Saver.open):
        with pytest.raises(js.CheckpointError, match="no permission"):
            read(js.Saver(s3.url("run")))
    assert not recwarn.list


def test_a_large_array_that_cannot_be_read_is_an_error_of_the_store(s3, tmp_path, few_retries):
    value = jnp.arange(2 << 20)
    js.Saver(tmp_path).save({"w": value}, 1)
    s3.put(tmp_path, "run")
    with js.Saver(s3.url("run")).open() as checkpoint:
        s3.fail(GET=(0, 1))
        np.testing.assert_array_equal(checkpoint["w"].read(), value)
        s3.fail(GET=(403, 99))
        with pytest.raises(js.CheckpointError, match="no permission") as caught:
            checkpoint["w"].read()
    assert s3.url("run/1/0") in str(caught.value)
    assert SECRET not in everything(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "PERMISSION_DENIED: SignatureDoesNotMatch: The request signature we calculated does "
            "not match [http_response_body='<CanonicalRequest>x-amz-security-token:TOKEN']",
            "s3://b/k can't be read: the credentials are refused (SignatureDoesNotMatch: The "
            "request signature we calculated does not match). Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
        ),
        (
            "INTERNAL: odd: Authorization: Bearer TOKEN",
            "s3://b/k can't be read: odd.",
        ),
        (
            "ABORTED: All 5 retry attempts failed: CURL error Could not resolve host",
            "s3://b/k can't be read: All 5 retry attempts failed: CURL error Could not resolve "
            "host. Check the network and the endpoint.",
        ),
        (
            'FAILED_PRECONDITION: Failed to resolve aws_region for bucket "b"',
            "s3://b/k can't be read: the bucket's region is unknown. Check its name; set "
            "AWS_REGION.",
        ),
        (
            "NOT_FOUND: PermanentRedirect: The bucket is elsewhere [http_response_body='']",
            "s3://b/k can't be read: the bucket is in another region than 'us-east-1', which "
            "AWS_REGION says (PermanentRedirect: The bucket is elsewhere). Set AWS_REGION to the "
            "bucket's.",
        ),
    ],
)
def test_an_error_has_url_operation_and_cause_and_no_secret(text, message, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    error = store_error("s3://b/k", "read", ValueError(text))
    assert str(error) == message
    assert "TOKEN" not in everything(error)


def test_no_secret_is_in_an_error_of_any_operation(s3, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-this-test")
    store = store_of(located("s3://no-such-bucket/run"))
    calls = [
        lambda: store.create("a", b""),
        lambda: store.write("a", b""),
        lambda: store.write_all([("a", b"")]),
        lambda: store.names(),
    ]
    for call in calls:
        with pytest.raises(js.CheckpointError, match="no bucket 'no-such-bucket'") as caught:
            call()
        shown = everything(caught.value)
        assert SECRET not in shown
        assert "token-of-this-test" not in shown
