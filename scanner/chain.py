"""Encoder and classifier in a row, with the features left where they were computed.

Works on onnxruntime's sessions and imports nothing of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Chain:
    """Both sessions of one device. The features go from one to the other inside `memory`, a name
    of onnxruntime's ("cuda", "cpu"); pixels are copied to it, and logits alone come back.

    Threads may call it at the same time: each call has bindings of its own.
    """

    def __init__(self, encoder: Any, classifier: Any, features: str, memory: str) -> None:
        """`features` names the encoder's output that the classifier takes."""
        self._encoder, self._classifier = encoder, classifier
        self._features, self._memory = features, memory
        self._pixels = str(encoder.get_inputs()[0].name)
        self._classifier_input = str(classifier.get_inputs()[0].name)
        self._logit = str(classifier.get_outputs()[0].name)

    def __call__(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Prepared pixels float32 [N, 3, S, S] -> logits, float32 [N] or as the graph shapes them.

        Raises what onnxruntime raises.
        """
        encoding = self._encoder.io_binding()
        encoding.bind_cpu_input(self._pixels, np.ascontiguousarray(pixels))
        # An output that is not bound, such as `deepest`, is not computed for anybody.
        encoding.bind_output(self._features, self._memory)
        self._encoder.run_with_iobinding(encoding)
        # The classifier computes on a stream of its own, which does not wait for this one.
        encoding.synchronize_outputs()
        (features,) = encoding.get_outputs()

        judging = self._classifier.io_binding()
        judging.bind_ortvalue_input(self._classifier_input, features)
        judging.bind_output(self._logit, "cpu")
        self._classifier.run_with_iobinding(judging)
        (logit,) = judging.copy_outputs_to_cpu()
        # A copy: the values lie in memory that goes with the binding.
        return np.array(logit, np.float32)
