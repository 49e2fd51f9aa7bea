"""What can go wrong with an object store, in one or two lines.

TensorStore's errors have the server's whole answer. Of a refused signature that holds the request
with its headers, a session token among them; so only the first line of an error is taken, without
what the server answered, and the error itself is not kept as the cause.
"""

import contextlib
import os
import re
from collections.abc import Iterator

from .._errors import CheckpointError, CheckpointNotFoundError, JscopeError

ADVICE = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "Run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS",
}
_OF_STORE = re.compile(
    r"(?:PERMISSION_DENIED|UNAUTHENTICATED|UNAVAILABLE|ABORTED|DEADLINE_EXCEEDED|"
    r"RESOURCE_EXHAUSTED|NOT_FOUND: NoSuchBucket)\b"
)
_CODE = re.compile(r"[A-Z_]+: ")
_WRONG_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")
_BUSY = ("SlowDown", "TooManyRequests", "ServiceUnavailable", "Throttl", "'429'", "'503'")
_WRONG_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint")
_SIGNED = re.compile(r"(?i)(?:authorization|x-amz-security-token|bearer|signature[=]).*", re.DOTALL)


class StoreError(CheckpointError):
    """An error of an object store that can't be reached or refuses; it tells of no checkpoint."""


class NoBucketError(StoreError, CheckpointNotFoundError):
    """An error of an object store: there is no such bucket."""


def is_of_store(error: Exception) -> bool:
    """Whether an error of TensorStore's is an object store's error, not damage to what is in it."""
    return is_unreachable(error) or bool(_OF_STORE.match(str(error)))


def is_unreachable(error: Exception) -> bool:
    """Whether an error of TensorStore's is that no answer came."""
    return isinstance(error, TimeoutError) or "CURL" in str(error)


def store_error(url: str, operation: str, error: Exception) -> StoreError:
    """The error of a request to an object store, from TensorStore's.

    Args:
        url: Of what.
        operation: What was tried, such as ``"read"``.
        error: TensorStore's, or a timeout's.
    """
    scheme, _, rest = url.partition("://")
    text = str(error)
    code = text.partition(":")[0]
    start, cause = f"{url} can't be {operation}:", cause_of(text)
    if "NoSuchBucket" in text or (code == "NOT_FOUND" and operation != "read"):
        bucket = rest.partition("/")[0]
        return NoBucketError(f"{start} there is no bucket {bucket!r}. Check its name.")
    if any(word in text for word in _WRONG_KEYS) or code == "UNAUTHENTICATED":
        return StoreError(f"{start} the credentials are refused ({cause}). {ADVICE[scheme]}.")
    if code == "PERMISSION_DENIED":
        return StoreError(
            f"{start} no permission ({cause}). {ADVICE[scheme]}, of an account that may; "
            "without credentials only public buckets are read."
        )
    if any(word in text for word in _BUSY):
        return StoreError(f"{start} the store is busy, also after retries ({cause}).")
    if any(word in text for word in _WRONG_REGION):
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        used = f"{region!r}, which AWS_REGION says" if region else "the one that was used"
        return StoreError(
            f"{start} the bucket is in another region than {used} ({cause}). Set AWS_REGION to the "
            "bucket's."
        )
    if "aws_region" in text:
        return StoreError(
            f"{start} the bucket's region is unknown. Check its name; set AWS_REGION."
        )
    if "credentials" in text:
        return StoreError(f"{start} no credentials can be had ({cause}). {ADVICE[scheme]}.")
    if isinstance(error, TimeoutError):
        return StoreError(f"{start} no answer came in time. Check the network and the endpoint.")
    if "CURL" in text or code in ("UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED"):
        return StoreError(f"{start} {cause}. Check the network and the endpoint.")
    return StoreError(f"{start} {cause}.")


def cause_of(text: str) -> str:
    """The first line of an error of TensorStore's, without its code and the server's answer."""
    line = _CODE.sub("", text, count=1).partition("\n")[0].partition(" [")[0]
    return _SIGNED.sub("", line)[:200].rstrip(".: ") or "no cause is given"


@contextlib.contextmanager
def failing_writes(what: str) -> Iterator[None]:
    """Raise a file system's error in the body as a `CheckpointError`, and a store's as it is."""
    try:
        yield
    except JscopeError:
        raise
    except OSError as error:
        raise CheckpointError(
            f"{what} can't be written: {error.strerror} ({error.filename or what})."
        ) from error
