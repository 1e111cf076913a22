"""Logistic regression on cached encodings, by L-BFGS over all of them at once.

Where the encoder is frozen and the head one layer, the loss is convex: a quasi-Newton method
with an explicit penalty (Liu & Nocedal, 1989) takes seconds, repeats to the last bits, and has
neither a learning rate nor dropout to choose.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scanner.errors import UsageError
from trainer.batches import FromCache, Source
from trainer.config import FitConfig
from trainer.experts import ExpertHeads
from trainer.loader import sample_weights
from trainer.losses import ClassificationLoss
from trainer.models import AutoencoderClassifier
from trainer.processes import Processes

ITERATIONS = 40  # of an epoch


class WholeBatch:
    """All training encodings, in every cached draw, and the head that is fitted to them.

    A picture counts as often as `balance` and `real_per_fake` would draw it. The penalty is
    `weight_decay` times the squared norm of the weights, on features that `head_norm`
    standardises by all of them; the bias has none.
    """

    def __init__(
        self,
        model: AutoencoderClassifier,
        source: Source,
        config: FitConfig,
        loss: ClassificationLoss,
        processes: Processes,
    ) -> None:
        if processes.count > 1:
            raise UsageError("optimizer = 'lbfgs' works in one process; it needs no more")
        # FitConfig grants both.
        assert isinstance(source, FromCache)
        assert not isinstance(model.classifier, ExpertHeads)
        self._loss, self._penalty = loss, config.weight_decay
        (self._last,) = model.classifier.last_layers()
        device = self._last.weight.device
        samples, draws = source.splits.train, source.draws
        self._x = torch.cat([source.drawn(draw) for draw in range(draws)]).to(device)
        self._label = torch.tensor([s.label for s in samples]).repeat(draws).to(device)
        if config.balance == "none" and config.prior is None:
            weight = torch.full((len(samples),), 1 / len(samples))
        else:
            chances = sample_weights(samples, config.balance, config.prior)
            weight = torch.from_numpy(chances).float()
        self._weight = weight.repeat(draws).to(device) / draws
        self.pictures = len(self._label)
        norm = model.classifier.layers[0]
        if isinstance(norm, nn.BatchNorm1d):
            self._standardise(norm)

    def _standardise(self, norm: nn.BatchNorm1d) -> None:
        """In place, for they are gigabytes; `norm` does the same from now on."""
        assert norm.running_mean is not None
        assert norm.running_var is not None
        variance, mean = torch.var_mean(self._x, dim=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        self._x -= mean
        self._x /= torch.sqrt(variance + norm.eps)

    def epoch(self, number: int) -> float:
        """Up to `ITERATIONS` more, with a history of their own; the first start at zero.

        Returns the loss that is left, without the penalty.
        """
        weight, bias = self._last.weight, self._last.bias
        if number == 0:
            with torch.no_grad():
                weight.zero_()
                bias.zero_()
        optimiser = torch.optim.LBFGS(
            [weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe"
        )

        def step() -> Tensor:
            optimiser.zero_grad()
            total = self._mean() + self._penalty * weight.square().sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimiser.step(step)  # type: ignore[no-untyped-call]
        optimiser.zero_grad()
        with torch.inference_mode():
            return float(self._mean())

    def _mean(self) -> Tensor:
        logit = self._last(self._x).squeeze(1)
        return (self._weight * self._loss.each(logit, self._label)).sum()
