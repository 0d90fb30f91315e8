# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a server for real inferences, on the server itself: report.yml hands this to the host's own Python.

Reads {"port": 8000, "images": [[64 numbers], ...]} and writes, for each model, what it answered and how long that took,
or the error. Standard library only: a server needs nothing installed for it.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import time

REPEAT = 50
BATCH = 64  # what the model's config.pbtxt allows


class InferenceError(Exception):
    """The server answered something else than an inference."""


def infer(connection: http.client.HTTPConnection, model: str, inputs: dict[str, list[list[float]]]) -> tuple[dict[str, list], float]:
    """Return the outputs by name, and the milliseconds that they took."""
    body = json.dumps(
        {"inputs": [{"name": name, "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": rows} for name, rows in inputs.items()]}
    )
    begin = time.perf_counter()
    connection.request("POST", f"/v2/models/{model}/infer", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    elapsed = (time.perf_counter() - begin) * 1000
    if response.status != 200:
        raise InferenceError(f"POST /v2/models/{model}/infer: wanted status 200, got {response.status}: {content.decode(errors='replace')}")
    return {output["name"]: output["data"] for output in json.loads(content)["outputs"]}, elapsed


def add_sub(connection: http.client.HTTPConnection) -> dict[str, object]:
    inputs = {"INPUT0": [[1.5, 2, 3, 4]], "INPUT1": [[10, 20, 30, 40]]}
    outputs, first = infer(connection, "add_sub", inputs)
    times = [infer(connection, "add_sub", inputs)[1] for repetition in range(REPEAT)]
    return {"inputs": inputs, "outputs": outputs, "first_ms": first, "median_ms": statistics.median(times), "slowest_ms": max(times)}


def digits(connection: http.client.HTTPConnection, images: list[list[float]]) -> dict[str, object]:
    labels: list[int] = []
    elapsed = 0.0
    for start in range(0, len(images), BATCH):
        outputs, milliseconds = infer(connection, "digits", {"IMAGE": images[start : start + BATCH]})
        labels += outputs["LABEL"]
        elapsed += milliseconds
    return {"labels": labels, "elapsed_ms": elapsed}


def main() -> None:
    asked = json.load(sys.stdin)
    connection = http.client.HTTPConnection("127.0.0.1", asked["port"], timeout=30)
    answers: dict[str, object] = {}
    for name, ask in (("add_sub", lambda: add_sub(connection)), ("digits", lambda: digits(connection, asked["images"]))):
        try:
            answers[name] = ask()
        except (OSError, http.client.HTTPException, InferenceError, ValueError, KeyError) as exc:
            answers[name] = {"error": f"{exc or type(exc).__name__}"}
            connection.close()
    # An idle connection that is left open would hold up the server when it is stopped.
    connection.close()
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
