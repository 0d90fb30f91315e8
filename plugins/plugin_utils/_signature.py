# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""Signatures of models, as the OpenSSF's model signing makes them, verified against a list of files.

The signed statement holds a checksum of every file. So the library verifies the signature, and this file compares the
statement with the checksums that are known already: nothing is read a second time, and nothing has to be on one machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import typing as t
from pathlib import Path

from ansible_collections.gpufleet.triton.plugins.module_utils._archive import is_foreign
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import EXCLUDE, MANIFEST, FileEntry, RepositoryError, is_excluded

_SHOWN = 5
# What model signing leaves out of its own accord, at the top of a model.
_GIT = (".git", ".gitattributes", ".github", ".gitignore")
_INSTALL = "install it on the controller: pip install 'model-signing>=1.1,<2' pyOpenSSL"


class SignatureError(RepositoryError):
    """A signature that does not hold for this content."""


def verify(
    entries: t.Iterable[FileEntry],
    signature: bytes,
    *,
    public_key: str | os.PathLike[str] | None = None,
    certificates: t.Sequence[str | os.PathLike[str]] | None = None,
    exclude: t.Sequence[str] = EXCLUDE,
) -> None:
    """Return if the signature is one by the owner of C(public_key), or of a certificate that C(certificates) vouch for,
    over exactly these files. The file that holds the signature is not signed itself; empty folders and modes are not signed.

    All that is published must be signed. What was signed and is never published, as C(exclude) names it, may be missing.
    """
    # An empty list would be the library's word for all authorities that the operating system trusts.
    if bool(public_key) == bool(certificates):
        raise SignatureError(
            "Cannot verify a signature", "wanted either a public key or certificates", "set signature_public_key or signature_certificates"
        )
    trusted = [public_key] if public_key else list(certificates or ())
    for path in trusted:
        if not os.access(t.cast(str, path), os.R_OK):
            raise SignatureError(f"Cannot verify a signature: {path} is not there or cannot be read", "", "correct the controller's path")
    signed = _signed_files(signature, public_key, certificates)
    own = hashlib.sha256(signature).hexdigest()
    _compare({entry.path: entry.sha256 for entry in entries if not entry.is_folder and entry.sha256 != own}, signed, exclude)


def _signed_files(signature: bytes, public_key: t.Any, certificates: t.Any) -> dict[str, str]:
    """The paths and checksums of the statement, once its signature has been verified."""
    verifier, reader = _library(public_key, certificates)
    # The library reads a file, and prints warnings on what is Ansible's own output.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder, "signature")
        path.write_bytes(signature)
        try:
            bundle = reader(path)
        # Its parsers raise whatever comes to them for a file that is no signature.
        except Exception as error:
            raise SignatureError(
                "Cannot read the signature",
                f"it is no signature of the OpenSSF's model signing: {_said(error)}",
                "make it with 'model_signing sign key' or 'model_signing sign certificate'",
            ) from error
        try:
            manifest = verifier.verify(bundle)
        # InvalidSignature, the errors of X509 stores, ValueError and KeyError: all mean that it does not hold.
        except Exception as error:
            trusted = f"the key {public_key}" if public_key else f"the certificates {', '.join(str(path) for path in certificates)}"
            raise SignatureError(
                f"The signature does not verify against {trusted}",
                _said(error),
                "get the signer's own key or certificate from a source that you trust, or have the model signed again",
            ) from error
    return _files_of(manifest)


def _library(public_key: t.Any, certificates: t.Any) -> tuple[t.Any, t.Callable[[Path], t.Any]]:
    try:
        from model_signing._signing import sign_certificate, sign_ec_key, sign_sigstore_pb
    except ImportError as error:
        missing = {"OpenSSL": "pyOpenSSL", "model_signing": "model-signing"}.get((error.name or "").partition(".")[0], error.name)
        raise SignatureError(f"Cannot verify a signature: the Python library {missing} is missing", str(error), _INSTALL) from error
    try:
        if certificates:
            return sign_certificate.Verifier([Path(path) for path in certificates]), sign_sigstore_pb.Signature.read
        return sign_ec_key.Verifier(Path(public_key)), sign_sigstore_pb.Signature.read
    # What the library's own libraries raise for a file that is no key or certificate.
    except Exception as error:
        kind = f"the key {public_key}" if public_key else f"the certificates {', '.join(str(path) for path in certificates)}"
        wanted = "wanted the public key of an elliptic curve (P-256, P-384 or P-521) as PEM" if public_key else "wanted certificates as PEM"
        raise SignatureError(f"Cannot use {kind}", f"{wanted}: {_said(error)}", "correct the file") from error


def _files_of(manifest: t.Any) -> dict[str, str]:
    """Only a list with the sha256 of each whole file can be compared with one."""
    how = manifest.serialization_type
    method, hash_type = how.get("method"), how.get("hash_type")
    if method != "files" or hash_type != "sha256":
        raise SignatureError(
            "Cannot use the signature",
            f"wanted the sha256 of each file in it, got {hash_type} of {method}",
            "sign the model with the method 'files' and the hash 'sha256', which are the defaults",
        )
    found: dict[str, str] = {}
    for item in manifest.resource_descriptors():
        if item.digest.algorithm != "sha256":
            why = f"wanted sha256 for {item.identifier!a}, got {item.digest.algorithm}"
            raise SignatureError("Cannot use the signature", why, "sign the model with the hash 'sha256', which is the default")
        found[str(item.identifier)] = item.digest.digest_hex
    return found


def _compare(got: t.Mapping[str, str], signed: t.Mapping[str, str], exclude: t.Sequence[str]) -> None:
    changed = [path for path in signed if path in got and got[path] != signed[path]]
    missing = [path for path in signed if path not in got and not _is_left_out(path, exclude)]
    added = [path for path in got if path not in signed]
    found = [_some(paths, word) for paths, word in ((changed, "changed"), (missing, "missing"), (added, "not signed")) if paths]
    if not found:
        return
    remedy = "get the model again from its publisher, or have it signed again; name in exclude what is no part of it"
    git = sorted({path.partition("/")[0] for path in added} & set(_GIT))
    if git:
        # Signed code could read it like any other file, so that it is not let through.
        remedy += f", here {', '.join(git)}, which signers leave out"
    raise SignatureError("The content is not what was signed", "; ".join(found), remedy)


def _is_left_out(path: str, exclude: t.Sequence[str]) -> bool:
    """Whether this collection takes a file for no part of a model, so that nobody can tell whether it is still there."""
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return path == MANIFEST or is_foreign(tuple(parts)) or any(is_excluded(each, exclude) for each in above)


def _some(paths: t.Sequence[str], word: str) -> str:
    named = ", ".join(ascii(path) for path in sorted(paths)[:_SHOWN])
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{word}: {named}{more}"


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
