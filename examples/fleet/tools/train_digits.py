# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the model "digits" on scikit-learn's handwritten digits, on the controller.

Writes models/digits/1/weights.npz, which the model loads, and .build/digits_heldout.json: a quarter of the images, which
the training never saw, for report.yml to ask the servers about. What is there is left alone while this file and
the libraries are those that made it, so that the model's content, and with it what the servers load, stays the same.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import sys
from pathlib import Path

FLEET = Path(__file__).resolve().parents[1]
WEIGHTS = FLEET / "models" / "digits" / "1" / "weights.npz"
HELD_OUT = FLEET / ".build" / "digits_heldout.json"
STAMP = FLEET / ".build" / "digits_stamp.json"

SEED = 7
WANTED_ACCURACY = 0.95


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stamp() -> dict[str, str]:
    """What the results depend on, and what they are."""
    made_by = {name: importlib.metadata.version(name) for name in ("numpy", "scikit-learn")}
    return {**made_by, **{path.name: sha256(path) for path in (Path(__file__), WEIGHTS, HELD_OUT)}}


def up_to_date() -> bool:
    try:
        return json.loads(STAMP.read_text()) == stamp()
    except (FileNotFoundError, ValueError):
        return False


def write(path: Path, content: bytes) -> None:
    """Write a file as a whole: an interrupted run leaves no half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    os.replace(new, path)


def train() -> tuple[bytes, bytes, float]:
    """Train, and return the weights, the held-out images and the accuracy on these."""
    # scikit-learn takes seconds to import, and most runs have nothing to train.
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    images, labels = load_digits(return_X_y=True)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    network = MLPClassifier(hidden_layer_sizes=(32,), max_iter=1000, random_state=SEED)
    network.fit(train_images / 16, train_labels)

    arrays = zip(("hidden", "output", "hidden_bias", "output_bias"), [*network.coefs_, *network.intercepts_])
    weights = io.BytesIO()
    np.savez(weights, **{name: array.astype(np.float32) for name, array in arrays})
    held_out = json.dumps({"images": test_images.astype(int).tolist(), "labels": test_labels.tolist()}, separators=(",", ":"))
    return weights.getvalue(), held_out.encode(), float(network.score(test_images / 16, test_labels))


def main() -> int:
    if up_to_date():
        print(f"digits: {WEIGHTS.relative_to(FLEET)} is up to date")
        return 0
    weights, held_out, accuracy = train()
    if accuracy < WANTED_ACCURACY:
        print(f"Cannot use the trained digits: wanted an accuracy of {WANTED_ACCURACY} on held-out images, got {accuracy:.3f}.")
        return 1
    write(WEIGHTS, weights)
    write(HELD_OUT, held_out)
    write(STAMP, json.dumps(stamp(), indent=2).encode())
    print(f"digits: trained {WEIGHTS.relative_to(FLEET)}, accuracy {accuracy:.3f} on images held out of the training")
    return 0


if __name__ == "__main__":
    sys.exit(main())
