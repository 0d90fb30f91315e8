# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a role documents is what it does: options and defaults are the same, in names, types and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROLES = Path(__file__).resolve().parents[3] / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir() if path.is_dir())
# Names that several roles read. The role that a name is called after has its default, if any role has one.
SHARED = {"triton_models", "model_repository_root", "model_repository_shared", "model_repository_storage"}
TYPES = {"str": str, "path": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict, "raw": object}


def load(role: str, name: str) -> dict[str, Any]:
    return yaml.safe_load((ROLES / role / name).read_text(encoding="utf-8")) or {}


def options_of(role: str) -> dict[str, Any]:
    return load(role, "meta/argument_specs.yml")["argument_specs"]["main"].get("options", {})


def is_template(value: object) -> bool:
    return isinstance(value, str) and "{{" in value


def without_descriptions(specification: dict[str, Any]) -> dict[str, Any]:
    """What the validator takes: suboptions without their prose."""
    cleaned = {}
    for name, option in specification.items():
        cleaned[name] = {key: value for key, value in option.items() if key not in ("description", "version_added")}
        if "options" in option:
            cleaned[name]["options"] = without_descriptions(option["options"])
    return cleaned


@pytest.mark.parametrize("role", NAMES)
def test_each_default_is_documented_with_the_same_value(role: str) -> None:
    options = options_of(role)
    documented = {name: options.get(name, {}).get("default", "undocumented") for name in load(role, "defaults/main.yml")}
    assert documented == load(role, "defaults/main.yml")


@pytest.mark.parametrize("role", NAMES)
def test_each_documented_default_is_a_default(role: str) -> None:
    documented = {name: option["default"] for name, option in options_of(role).items() if "default" in option}
    assert set(documented) == set(load(role, "defaults/main.yml"))


@pytest.mark.parametrize("role", NAMES)
def test_an_option_has_a_default_or_is_required(role: str) -> None:
    owned = {name: option for name, option in options_of(role).items() if name not in SHARED or name.startswith(f"{role}_")}
    odd = [name for name, option in owned.items() if ("default" in option) == bool(option.get("required"))]
    assert odd == []


@pytest.mark.parametrize("role", NAMES)
def test_each_default_is_of_the_documented_type(role: str) -> None:
    defaults = load(role, "defaults/main.yml")
    wrong = {}
    for name, option in options_of(role).items():
        value = defaults.get(name)
        kind = TYPES[option.get("type", "str")]
        # To Python a truth value is a number as well.
        is_number = kind in (int, (int, float)) and isinstance(value, bool)
        if name in defaults and not is_template(value) and (not isinstance(value, kind) or is_number):
            wrong[name] = value
    assert wrong == {}


@pytest.mark.parametrize("role", NAMES)
def test_the_defaults_pass_their_own_specification(role: str) -> None:
    options = options_of(role)
    given = {name: value for name, value in load(role, "defaults/main.yml").items() if name in options and not is_template(value)}
    specification = without_descriptions({name: options[name] for name in given})
    assert ArgumentSpecValidator(specification).validate(given).error_messages == []


@pytest.mark.parametrize("role", NAMES)
def test_names_begin_with_the_roles_name(role: str) -> None:
    names = set(load(role, "defaults/main.yml")) | set(options_of(role))
    assert {name for name in names - SHARED if not name.startswith(f"{role}_")} == set()
    assert {name for name in load(role, "defaults/main.yml") if not name.startswith(f"{role}_")} == set()


@pytest.mark.parametrize("role", NAMES)
def test_internal_names_begin_with_two_underscores(role: str) -> None:
    files = (ROLES / role / "vars").glob("*.yml") if (ROLES / role / "vars").is_dir() else []
    names = {name for file in files for name in load(role, f"vars/{file.name}")}
    assert {name for name in names if not name.startswith(f"__{role}_")} == set()


@pytest.mark.parametrize("role", NAMES)
def test_every_option_is_described(role: str) -> None:
    assert [name for name, option in options_of(role).items() if not option.get("description")] == []
