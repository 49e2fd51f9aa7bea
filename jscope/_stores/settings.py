"""How to reach an object store, from where each ecosystem keeps it.

======  =========================================================================================
store   settings
======  =========================================================================================
S3      ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``; else a profile,
        ``AWS_PROFILE``, in ``~/.aws`` or ``AWS_SHARED_CREDENTIALS_FILE``, ``AWS_CONFIG_FILE``;
        else the role of a container or of an EC2 instance; else public buckets are read.
        ``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL``, the profile's ``endpoint_url``: another
        server than Amazon's.
        ``AWS_REGION``, ``AWS_DEFAULT_REGION``, the profile's ``region``: if none is set, the
        bucket's own is asked for.
GCS     Google's application default credentials; else public buckets are read.
        ``STORAGE_EMULATOR_HOST``: another server than Google's, to which no credentials go. It is
        read once in a process.
======  =========================================================================================

Source: TensorStore 0.1.86, ``kvstore/s3``, ``kvstore/gcs_http``. It takes S3's server, region and
kind of credentials from its specification, and only the credentials themselves from the
environment. Its conditional writes to other servers than Amazon's are one request that asks and
one that writes, unless ``TENSORSTORE_S3_USE_CONDITIONAL_WRITE`` is set; then the server decides.
"""

import contextlib
import dataclasses
import functools
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._errors import listed
from .errors import StoreError

if TYPE_CHECKING:
    from tensorstore import Context, KvStore

DRIVERS = {"s3": "s3", "gs": "gcs"}
# TensorStore's own are 32 retries, of an hour in all. These are 15 s of a server that is not there.
_RETRIES = {"max_retries": 5, "initial_delay": "0.5s", "max_delay": "8s"}
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_CONTAINER = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_EC2 = Path("/sys/devices/virtual/dmi/id/sys_vendor")


def spec_of(scheme: str, bucket: str) -> dict[str, Any]:
    """The settings of a bucket without any secret, as TensorStore's specification.

    Raises:
        StoreError: If a setting is invalid.
    """
    _set_environment()
    spec: dict[str, Any] = {"driver": DRIVERS[scheme], "bucket": bucket}
    if scheme == "gs":
        return spec
    profile = _profile()
    endpoint = _endpoint(profile)
    region = _first_set("AWS_REGION", "AWS_DEFAULT_REGION") or profile.option("region")
    if endpoint:
        spec["endpoint"] = endpoint
        region = region or "us-east-1"
    if region:
        spec["aws_region"] = region
    return spec | {"aws_credentials": _credentials(profile)}


def _endpoint(profile: "_Profile") -> str | None:
    """The server that is set, if one is."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    set_by = next((name for name in names if os.environ.get(name)), None)
    url = os.environ[set_by] if set_by else profile.option("endpoint_url")
    if url and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", url):
        where = set_by or f"endpoint_url of the profile {profile.name!r}"
        raise StoreError(
            f"{where} is {url!r}, which is not a URL. Write http://host:port or https://host."
        )
    return url.rstrip("/") if url else None


def context() -> "Context":
    """TensorStore's settings of requests: retries, and S3's credentials as they are now."""
    return _context_of(_fingerprint())


@dataclasses.dataclass
class OpenedBucket:
    """What the settings in the environment open: a bucket.

    Attributes:
        store: TensorStore's handle; opening it makes no request.
        has_answered: Whether a request to it has been answered, in this process.
    """

    store: "KvStore"
    has_answered: bool = False


def opened_by_settings(scheme: str, bucket: str) -> OpenedBucket:
    """What the settings open as they are now: a bucket, the same object while they are the same.

    Raises:
        StoreError: If a setting is invalid.
        ValueError: If the bucket's name is.
    """
    spec = spec_of(scheme, bucket)
    return _opened_by_spec(json.dumps(spec), _fingerprint())


@functools.lru_cache(maxsize=32)
def _opened_by_spec(spec: str, fingerprint: int) -> OpenedBucket:
    """What the settings open, by a bucket's specification and the credentials, once for both."""
    del fingerprint
    import tensorstore

    members = json.loads(spec)
    with _with_settings_files(members):
        return OpenedBucket(tensorstore.KvStore.open(members, context=context()).result())


@contextlib.contextmanager
def _with_settings_files(spec: Mapping[str, Any]) -> Iterator[None]:
    """Let the default chain of credentials find its files, while it is made: it prints if not."""
    missing = [name for name, path in _settings_files().items() if not os.path.isfile(path)]
    if spec.get("aws_credentials", {}).get("type") != "default" or not missing:
        yield
        return
    import tempfile

    before = {name: os.environ.get(name) for name in missing}
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("[default]\n")
        file.flush()
        os.environ.update(dict.fromkeys(missing, file.name))
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


@functools.lru_cache(maxsize=8)
def _context_of(fingerprint: int) -> "Context":
    """TensorStore's settings of requests for credentials, made once for these."""
    del fingerprint
    import tensorstore

    return tensorstore.Context({"s3_request_retries": _RETRIES, "gcs_request_retries": _RETRIES})


def _set_environment() -> None:
    """Set the environment variables that are TensorStore's only settings, before it reads them."""
    os.environ.setdefault("TENSORSTORE_S3_USE_CONDITIONAL_WRITE", "true")
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if emulator:
        url = emulator if "://" in emulator else f"http://{emulator}"
        os.environ.setdefault("TENSORSTORE_GCS_HTTP_URL", url.rstrip("/"))
        os.environ.setdefault("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")


# The members of a profile by which credentials are had elsewhere.
_ROLES = {"role_arn", "credential_process", "sso_session", "sso_start_url", "login_session"}


def _fingerprint() -> int:
    """A number that changes with the credentials, so that new ones are used."""
    names = (*_KEYS, *_CONTAINER, "AWS_PROFILE", *_FILES)
    return hash(tuple(os.environ.get(name) for name in names))


_FILES = {
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
    "AWS_CONFIG_FILE": "~/.aws/config",
}


def _credentials(profile: "_Profile") -> dict[str, Any]:
    """Which of TensorStore's kinds of credentials to use.

    Its default chain looks for all in turn, and prints lines for each file that is not there.
    """
    if os.environ.get(_KEYS[0]):
        return {"type": "environment"}
    found = profile.credentials()
    if found is not None:
        return found
    if _first_set(*_CONTAINER):
        return {"type": "ecs"}
    if os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return {"type": "default", "profile": "default"}
    return {"type": "imds" if _is_ec2() else "anonymous"}


def _settings_files() -> dict[str, str]:
    """Where the files of settings are, if they are there."""
    return {name: os.environ.get(name) or os.path.expanduser(at) for name, at in _FILES.items()}


@dataclasses.dataclass(frozen=True)
class _Profile:
    """A profile of AWS's settings files: the one that is set, or the default one.

    Attributes:
        name: Its name.
        is_set: Whether it is chosen by its name.
        options: What the files have of it; None if they don't have it.
        known: The profiles that they have.
    """

    name: str
    is_set: bool
    options: Mapping[str, str] | None
    known: tuple[str, ...]

    def option(self, name: str) -> str | None:
        """One of its settings, None if it isn't there."""
        return (self.options or {}).get(name)

    def credentials(self) -> dict[str, Any] | None:
        """TensorStore's kind of credentials: with the profile's keys, or by the default chain.

        None if no profile is chosen, and the files have no credentials of a default one.

        Raises:
            StoreError: If the files don't have the one that is chosen.
        """
        files = _settings_files().values()
        if self.is_set and self.options is None:
            raise StoreError(
                f"AWS_PROFILE is {self.name!r}, and the profiles in {' and '.join(files)} are "
                f"{listed(self.known) or 'none'}. Set it to one of them, or set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )
        options = self.options or {}
        if "aws_access_key_id" in options:
            there = [path if os.path.isfile(path) else os.devnull for path in files]
            kind = {"type": "profile", "credentials_file": there[0], "config_file": there[1]}
            return {**kind, "profile": self.name}
        if not self.is_set and not options.keys() & _ROLES:
            return None
        return {"type": "default", "profile": self.name}


def _profile() -> _Profile:
    """The profile in AWS's settings files as they are now."""
    files = tuple(_settings_files().values())
    changed = tuple(os.stat(path).st_mtime_ns if os.path.isfile(path) else 0 for path in files)
    return _profile_in(files, _first_set("AWS_PROFILE", "AWS_DEFAULT_PROFILE"), changed)


@functools.lru_cache(maxsize=8)
def _profile_in(files: tuple[str, ...], chosen: str | None, changed: tuple[int, ...]) -> _Profile:
    """The profile in settings files, read once for each change of them."""
    import configparser

    del changed
    name = chosen or "default"
    parser = configparser.RawConfigParser(strict=False)
    with contextlib.suppress(configparser.Error, UnicodeDecodeError):
        parser.read(files)
    sections = [section for section in (name, f"profile {name}") if section in parser]
    options = {key: value for section in sections for key, value in parser[section].items()}
    known = dict.fromkeys(section.removeprefix("profile ") for section in parser.sections())
    return _Profile(name, chosen is not None, options if sections else None, tuple(known))


def _is_ec2() -> bool:
    """Whether this machine is an EC2 instance, whose role may have credentials."""
    try:
        return _EC2.read_text().startswith("Amazon EC2")
    except OSError:
        return False


def _first_set(*names: str) -> str | None:
    """The first of these environment variables that is set."""
    return next(filter(None, map(os.environ.get, names)), None)
