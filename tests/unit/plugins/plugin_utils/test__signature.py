# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything here is signed by the library itself, and the list of files comes from a scan of the folder."""

from __future__ import annotations

import base64
import datetime
import json
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import EXCLUDE, FileEntry, HashCache, scan
from ansible_collections.gpufleet.triton.plugins.plugin_utils._signature import SignatureError, verify
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from model_signing import hashing, signing

PrivateKey = ec.EllipticCurvePrivateKey


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "densenet"
    (folder / "1" / "deep").mkdir(parents=True)
    (folder / "2").mkdir()
    (folder / "config.pbtxt").write_text('name: "densenet"\n')
    (folder / "1" / "model.onnx").write_bytes(b"\0weights" * 1000)
    (folder / "1" / "deep" / "ä b.txt").write_text("labels")
    (folder / "1" / "empty").write_text("")
    (folder / "1" / "tool").write_text("#!/bin/sh\n")
    (folder / "1" / "tool").chmod(0o755)
    return folder


class Keys:
    def __init__(self, folder: Path, name: str, curve: ec.EllipticCurve | None = None) -> None:
        self.key = ec.generate_private_key(curve or ec.SECP256R1())
        self.private, self.public = write_key(folder / f"{name}.key", self.key), folder / f"{name}.pub"
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        self.public.write_bytes(self.key.public_key().public_bytes(serialization.Encoding.PEM, form))


def write_key(path: Path, key: PrivateKey) -> Path:
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return path


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path, "signer")


def sign(model: Path, keys: Keys, path: Path | None = None, config: hashing.Config | None = None) -> bytes:
    path = path or model.parent / "model.sig"
    signer = signing.Config().use_elliptic_key_signer(private_key=keys.private)
    config = config or hashing.Config().set_ignored_paths(paths=[path], ignore_git_paths=True)
    signer.set_hashing_config(config).sign(model, path)
    return path.read_bytes()


def entries(model: Path, *exclude: str) -> list[FileEntry]:
    return scan(str(model), HashCache(None), (".git", ".gitignore", ".gitattributes", *exclude))


# What holds


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_a_signed_model_verifies(model: Path, tmp_path: Path, curve: ec.EllipticCurve, capsys: pytest.CaptureFixture[str]) -> None:
    keys = Keys(tmp_path, "any", curve)
    verify(entries(model), sign(model, keys), public_key=keys.public)
    verify(entries(model), sign(model, keys), public_key=str(keys.public))
    assert capsys.readouterr().out == ""


def test_the_signature_may_lie_in_the_model_under_any_name(model: Path, keys: Keys) -> None:
    signature = sign(model, keys, model / "1" / "the model.sig")
    found = entries(model)
    assert "1/the model.sig" in {entry.path for entry in found}
    verify(found, signature, public_key=keys.public)


def test_what_git_keeps_for_itself_is_signed_by_nobody(model: Path, keys: Keys) -> None:
    (model / ".git").mkdir()
    (model / ".git" / "HEAD").write_text("x")
    (model / ".gitattributes").write_text("x")
    verify(entries(model), sign(model, keys), public_key=keys.public)


def test_what_is_never_published_may_be_missing(model: Path, keys: Keys) -> None:
    """Signed all the same: the signer's tool leaves out other files than this collection does."""
    left_out = ("1/.gitignore", "1/__pycache__/model.cpython-310.pyc", ".DS_Store", "1/.ipynb_checkpoints/a/b", ".gpufleet.json")
    for path in (*left_out, "1/._model.onnx", "__MACOSX/x", "notes/a/b"):
        (model / path).parent.mkdir(parents=True, exist_ok=True)
        (model / path).write_text("x")
    signature = sign(model, keys)
    verify(scan(str(model), HashCache(None)), signature, public_key=keys.public)
    subprocess.run(["rm", "-r", model / "__MACOSX", model / "1/._model.onnx"], check=True)
    verify(scan(str(model), HashCache(None)), signature, public_key=keys.public)
    exclude = [*EXCLUDE, "notes"]
    found = scan(str(model), HashCache(None), exclude)
    verify(found, signature, public_key=keys.public, exclude=exclude)
    with pytest.raises(SignatureError, match=r"Missing: 'notes/a/b'"):
        verify(found, signature, public_key=keys.public)


def test_what_is_not_excluded_may_not_be_missing(model: Path, keys: Keys) -> None:
    (model / "1" / "x.pyc").write_text("x")
    signature = sign(model, keys)
    (model / "1" / "x.pyc").unlink()
    with pytest.raises(SignatureError, match=r"Missing: '1/x\.pyc'"):
        verify(scan(str(model), HashCache(None), ()), signature, public_key=keys.public, exclude=())


def test_what_signers_leave_out_and_is_published_is_refused(model: Path, keys: Keys) -> None:
    """Signed code could read what nobody vouches for. The remedy names it."""
    (model / ".github" / "workflows").mkdir(parents=True)
    (model / ".github" / "workflows" / "x.yml").write_text("x")
    signature = sign(model, keys)
    with pytest.raises(SignatureError, match=r"Not signed: '\.github/workflows/x\.yml'") as caught:
        verify(entries(model), signature, public_key=keys.public)
    assert "name in exclude what is no part of it, here .github, which signers leave out" in caught.value.remedy
    verify(scan(str(model), HashCache(None), EXCLUDE), signature, public_key=keys.public)


def test_empty_folders_and_modes_are_not_signed(model: Path, keys: Keys) -> None:
    signature = sign(model, keys)
    (model / "3").mkdir()
    (model / "1" / "tool").chmod(0o644)
    verify(entries(model), signature, public_key=keys.public)


def test_nothing_of_the_model_is_read(model: Path, keys: Keys) -> None:
    signature, found = sign(model, keys), entries(model)
    shutil.rmtree(model)
    verify(found, signature, public_key=keys.public)


# What does not


def test_a_changed_an_added_and_a_missing_file_are_named(model: Path, keys: Keys) -> None:
    signature = sign(model, keys)
    (model / "1" / "model.onnx").write_bytes(b"\0Weights")
    (model / "1" / "tool").unlink()
    (model / "1" / "trojan.so").write_text("x")
    with pytest.raises(SignatureError) as caught:
        verify(entries(model), signature, public_key=keys.public)
    assert caught.value.what == "The content is not what was signed"
    assert caught.value.why == "changed: '1/model.onnx'; missing: '1/tool'; not signed: '1/trojan.so'"
    assert "exclude" in caught.value.remedy


@pytest.mark.parametrize("change", ["changed", "missing", "not signed"])
def test_each_difference_alone(model: Path, keys: Keys, change: str) -> None:
    signature = sign(model, keys)
    path = model / "1" / ("new" if change == "not signed" else "empty")
    path.unlink() if change == "missing" else path.write_text("x")
    with pytest.raises(SignatureError, match=f"(?i){change}: '1/{path.name}'"):
        verify(entries(model), signature, public_key=keys.public)


def test_many_differences_are_counted(model: Path, keys: Keys) -> None:
    signature = sign(model, keys)
    for number in range(12):
        (model / "1" / f"x{number:02}").write_text("x")
    with pytest.raises(SignatureError, match=r"(?i)not signed: '1/x00', .*'1/x04' and 7 more"):
        verify(entries(model), signature, public_key=keys.public)


def test_what_the_signer_left_out_is_not_signed(model: Path, keys: Keys) -> None:
    """A signature may name paths that it ignores. They may hold anything, so they are no part of a verified model."""
    config = hashing.Config().set_ignored_paths(paths=[model / "1" / "tool", model.parent / "model.sig"])
    signature = sign(model, keys, config=config)
    with pytest.raises(SignatureError, match=r"(?i)not signed: '1/tool'"):
        verify(entries(model), signature, public_key=keys.public)
    verify(entries(model, "tool"), signature, public_key=keys.public)


def test_the_key_of_somebody_else(model: Path, keys: Keys, tmp_path: Path) -> None:
    signature, other = sign(model, keys), Keys(tmp_path, "other")
    with pytest.raises(SignatureError, match=r"does not verify against the key .*other\.pub") as caught:
        verify(entries(model), signature, public_key=other.public)
    assert "signer's own key" in caught.value.remedy


def test_the_key_of_somebody_else_that_claims_to_be_the_right_one(model: Path, keys: Keys, tmp_path: Path) -> None:
    """The hint of the key in the signature is no proof."""
    mine, theirs = json.loads(sign(model, keys)), json.loads(sign(model, Keys(tmp_path, "other")))
    theirs["verificationMaterial"] = mine["verificationMaterial"]
    with pytest.raises(SignatureError, match="does not verify against the key"):
        verify(entries(model), json.dumps(theirs).encode(), public_key=keys.public)


def test_a_statement_that_was_changed(model: Path, keys: Keys) -> None:
    """Somebody put the checksum of another file into it."""
    bundle = json.loads(sign(model, keys))
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statement["predicate"]["resources"].pop()
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    with pytest.raises(SignatureError, match="does not verify against the key"):
        verify(entries(model), json.dumps(bundle).encode(), public_key=keys.public)


GARBAGE = [b"", b"x", b"{}", b"[]", b"null", b"\xff\xfe", b'{"mediaType": "x"}', b'{"verificationMaterial": 5}', b"[" * 100_000]


@pytest.mark.parametrize("signature", GARBAGE, ids=lambda found: repr(found[:12]))
def test_what_is_no_signature(model: Path, keys: Keys, signature: bytes) -> None:
    with pytest.raises(SignatureError, match="Cannot read the signature"):
        verify(entries(model), signature, public_key=keys.public)


@pytest.mark.parametrize(
    ("config", "got"),
    [
        (hashing.Config().use_file_serialization(hashing_algorithm="blake2"), "got blake2"),
        (hashing.Config().use_file_serialization(hashing_algorithm="blake3"), "got blake3"),
        (hashing.Config().use_shard_serialization(hashing_algorithm="sha256"), "got sha256 of shards"),
    ],
)
def test_a_signature_that_cannot_be_compared(model: Path, keys: Keys, config: hashing.Config, got: str) -> None:
    signature = sign(model, keys, config=config)
    with pytest.raises(SignatureError, match=got) as caught:
        verify(entries(model), signature, public_key=keys.public)
    assert "method 'files' and the hash 'sha256'" in caught.value.remedy


# Certificates


class Authority:
    """A root, what it vouches for, and a signer of theirs."""

    def __init__(self, folder: Path, name: str, signs: bool = True) -> None:
        self.folder, self.name = folder, name
        root_key, middle_key, self.key = (ec.generate_private_key(ec.SECP256R1()) for _number in range(3))
        root = self._issue("root", root_key, "root", root_key, is_authority=True)
        middle = self._issue("middle", middle_key, "root", root_key, is_authority=True)
        leaf = self._issue("leaf", self.key, "middle", middle_key, is_authority=False, signs=signs)
        self.root, self.middle, self.leaf = self._write("root", root), self._write("middle", middle), self._write("leaf", leaf)
        self.private = write_key(folder / f"{name}-leaf.key", self.key)

    def _issue(
        self, subject: str, key: PrivateKey, issuer: str, issuer_key: PrivateKey, is_authority: bool, signs: bool = True
    ) -> x509.Certificate:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{self.name} {text}")])

        now = datetime.datetime.now(datetime.timezone.utc)
        others = ("content_commitment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only")
        usage = {**dict.fromkeys(others, False), "key_encipherment": not signs}
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=signs, key_cert_sign=is_authority, **usage), critical=True)
            .sign(issuer_key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.folder / f"{self.name}-{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def sign(self, model: Path) -> bytes:
        path = model.parent / "model.sig"
        signing.Config().use_certificate_signer(
            private_key=self.private, signing_certificate=self.leaf, certificate_chain=[self.middle]
        ).sign(model, path)
        return path.read_bytes()


def test_a_model_signed_with_a_certificate(model: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "acme")
    signature = authority.sign(model)
    verify(entries(model), signature, certificates=[authority.root])
    (model / "1" / "tool").write_text("changed")
    with pytest.raises(SignatureError, match=r"(?i)changed: '1/tool'"):
        verify(entries(model), signature, certificates=[authority.root])


def test_an_authority_that_is_not_trusted(model: Path, tmp_path: Path) -> None:
    signature = Authority(tmp_path, "acme").sign(model)
    with pytest.raises(SignatureError, match=r"does not verify against the certificates .*evil-root\.pem"):
        verify(entries(model), signature, certificates=[Authority(tmp_path, "evil").root])


@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")
def test_a_certificate_that_is_not_for_signing(model: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "acme", signs=False)
    with pytest.raises(SignatureError, match="cannot be used for signing"):
        verify(entries(model), authority.sign(model), certificates=[authority.root])


def test_a_signature_by_key_where_a_certificate_is_wanted_and_the_other_way_round(model: Path, keys: Keys, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "acme")
    with pytest.raises(SignatureError, match="does not verify against the certificates"):
        verify(entries(model), sign(model, keys), certificates=[authority.root])
    with pytest.raises(SignatureError, match="does not verify against the key"):
        verify(entries(model), authority.sign(model), public_key=keys.public)


# What it is verified with


@pytest.mark.parametrize("options", [{}, {"certificates": []}, {"public_key": "a", "certificates": ["b"]}])
def test_one_kind_of_trust_is_wanted(options: dict[str, t.Any]) -> None:
    with pytest.raises(SignatureError, match=r"(?i)wanted either a public key or certificates"):
        verify([], b"{}", **options)


@pytest.mark.parametrize("content", ["", "no key", "rsa", "private"])
def test_what_is_no_key(model: Path, keys: Keys, tmp_path: Path, content: str) -> None:
    path = tmp_path / "given.pub"
    path.write_text(content)
    if content == "rsa":
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        path.write_bytes(rsa.generate_private_key(65537, 2048).public_key().public_bytes(serialization.Encoding.PEM, form))
    elif content == "private":
        path.write_bytes(keys.private.read_bytes())
    with pytest.raises(SignatureError, match=r"Cannot use the key .*given\.pub") as caught:
        verify(entries(model), sign(model, keys), public_key=path)
    assert "public key of an elliptic curve" in caught.value.why


def test_what_is_no_certificate(model: Path, keys: Keys) -> None:
    with pytest.raises(SignatureError, match=r"Cannot use the certificates"):
        verify(entries(model), sign(model, keys), certificates=[keys.public])


def test_files_that_are_not_there(model: Path, tmp_path: Path) -> None:
    for options in ({"public_key": tmp_path / "gone"}, {"certificates": [str(tmp_path / "gone")]}):
        with pytest.raises(SignatureError, match=r"gone is not there or cannot be read"):
            verify([], b"{}", **options)


@pytest.mark.parametrize("library", ["model-signing", "pyOpenSSL"])
def test_without_the_libraries_they_are_named(model: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    signature = sign(model, keys)
    loaded = [name for name in sys.modules if name.split(".")[0] in ("model_signing", "OpenSSL")]
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "OpenSSL" if library == "pyOpenSSL" else "model_signing", None)
    with pytest.raises(SignatureError, match=f"library {library} is missing") as caught:
        verify(entries(model), signature, public_key=keys.public)
    assert "pip install 'model-signing>=1.1,<2' pyOpenSSL" in caught.value.remedy
