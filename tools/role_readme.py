#!/usr/bin/env python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write each role's README.md from its meta/argument_specs.yml.

What stands between the two "by hand" comments of a README stays as it is; the rest is made anew.

  role_readme.py [ROLE...]            write the READMEs, of all roles or of those named
  role_readme.py --check [ROLE...]    write nothing; end with 1 and name the READMEs that are not what would be written
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[1] / "roles"
COLLECTION = "gpufleet.triton"
LICENCE = """<!--
Copyright (c) 2026, The gpufleet.triton authors
GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
-->
"""
BEGIN, END = "<!-- begin: by hand -->", "<!-- end: by hand -->"
BY_HAND = re.compile(re.escape(BEGIN) + r"\n(.*?)" + re.escape(END), re.DOTALL)
MARKUP = re.compile(r"\b([OVCIBEMP])\(((?:[^()\\]|\\.)*)\)")
LINK = re.compile(r"\b[LU]\(([^,)]+)(?:, *([^)]+))?\)")


def markdown(text: str) -> str:
    """Ansible's markup as Markdown."""

    def replace(match: re.Match[str]) -> str:
        kind, inner = match.group(1), re.sub(r"\\(.)", r"\1", match.group(2))
        return {"I": f"*{inner}*", "B": f"**{inner}**"}.get(kind, f"`{inner}`")

    text = LINK.sub(lambda match: f"[{match.group(1)}]({match.group(2) or match.group(1)})", text)
    return MARKUP.sub(replace, " ".join(text.split()))


def sentences(value: str | list[str] | None) -> list[str]:
    return [markdown(item) for item in ([value] if isinstance(value, str) else value or [])]


def shown_type(option: dict[str, Any]) -> str:
    kind = option.get("type", "str")
    return f"list of {option['elements']}" if kind == "list" and "elements" in option else kind


def shown_default(option: dict[str, Any]) -> str:
    if option.get("required"):
        return "required"
    if "default" not in option:
        return ""
    value = option["default"]
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


def rows(options: dict[str, Any], prefix: str = "") -> list[str]:
    """One row of the table for each option, suboptions after the option that holds them."""
    found = []
    for name, option in options.items():
        description = " ".join(sentences(option.get("description")))
        if option.get("choices"):
            description += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        cells = [f"`{prefix}{name}`", shown_type(option), shown_default(option), description]
        found.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        if option.get("options"):
            inner = "[]." if option.get("type") == "list" else "."
            found += rows(option["options"], f"{prefix}{name}{inner}")
    return found


def example(role: str) -> str:
    return f"""```yaml
- name: Use the role
  hosts: gpu_hosts
  become: true
  roles:
    - role: {COLLECTION}.{role}
```
"""


def readme(role: str, specs: dict[str, Any], by_hand: str | None) -> str:
    """The text of a README; without a text by hand it gets a plain example in its place."""
    main = specs["main"]
    parts = [LICENCE, f"# {COLLECTION}.{role}\n", f"{markdown(main['short_description'])}.\n"]
    parts += [f"{sentence}\n" for sentence in sentences(main.get("description"))]
    parts.append(f"{BEGIN}\n{by_hand if by_hand is not None else '## Example' + chr(10) + chr(10) + example(role)}{END}\n")
    for name, entry in specs.items():
        if name != "main":
            parts.append(f"## Entry point `{name}`\n\n{markdown(entry['short_description'])}.\n")
            parts += [f"{sentence}\n" for sentence in sentences(entry.get("description"))]
        options = entry.get("options")
        if options:
            title = "## Variables" if name == "main" else "### Variables"
            table = "\n".join(["| Variable | Type | Default | Description |", "|---|---|---|---|", *rows(options)])
            parts.append(f"{title}\n\n{table}\n")
    return "\n".join(parts)


def wanted(folder: Path) -> str:
    specs = yaml.safe_load((folder / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    path = folder / "README.md"
    kept = BY_HAND.search(path.read_text(encoding="utf-8")) if path.exists() else None
    return readme(folder.name, specs, kept.group(1) if kept else None)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only tell what would change")
    parser.add_argument("roles", nargs="*", metavar="ROLE", help="names of roles; all of them when none is named")
    parsed = parser.parse_args(arguments)
    check, stale = parsed.check, []
    for spec in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        if parsed.roles and spec.parents[1].name not in parsed.roles:
            continue
        path = spec.parents[1] / "README.md"
        text = wanted(spec.parents[1])
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path.relative_to(ROLES.parent)))
            if not check:
                path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name} is not what its argument_specs.yml says. Run tools/role_readme.py." if check else f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
