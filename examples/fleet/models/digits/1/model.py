# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell handwritten digits apart: one hidden layer, with the weights that tools/train_digits.py writes beside this file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, _args: dict[str, str]) -> None:
        with np.load(Path(__file__).with_name("weights.npz"), allow_pickle=False) as weights:
            self.hidden, self.hidden_bias = weights["hidden"], weights["hidden_bias"]
            self.output, self.output_bias = weights["output"], weights["output_bias"]

    def execute(self, requests: list) -> list:
        # Requests that Triton gathered (dynamic_batching) are computed as one batch and handed back one by one.
        images = [pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy() for request in requests]
        scores = self.scores(np.concatenate(images))
        labels = scores.argmax(axis=1).astype(np.int32)[:, np.newaxis]
        ends = np.cumsum([len(image) for image in images])[:-1]
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("LABEL", label), pb_utils.Tensor("SCORES", score)])
            for label, score in zip(np.split(labels, ends), np.split(scores, ends))
        ]

    def scores(self, images: np.ndarray) -> np.ndarray:
        hidden = np.maximum(images / np.float32(16) @ self.hidden + self.hidden_bias, 0)
        output = hidden @ self.output + self.output_bias
        # Softmax; the largest is subtracted because exp() of a large number is infinite.
        output = np.exp(output - output.max(axis=1, keepdims=True))
        return output / output.sum(axis=1, keepdims=True)
