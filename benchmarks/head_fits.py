"""Small heads on cached encodings, and ways to fit them: what `benchmarks.heads` compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

LOSSES = ("bce", "smoothed", "focal")
Logits = npt.NDArray[np.float64]
Head = Callable[[Tensor], Logits]  # standardised features [N, F] -> logits [N]


@dataclass(frozen=True, slots=True)
class HeadFit:
    """How to fit: the loss; L2 on the weights; the hidden units of a perceptron (0: none, i.e.
    logistic regression); rounds of group-DRO over sources (0: each source counts alike); a
    penalty on how far the mean logits of a class's sources lie apart (their variance; 0: none)."""

    loss: str = "bce"
    l2: float = 1e-3
    hidden: int = 0
    dro_rounds: int = 0
    apart: float = 0.0

    def __call__(
        self, x: Tensor, fake: Tensor, weight: Tensor, sources: Sequence[str], seed: int
    ) -> Head:
        """Fit to x [N, F], fake [N] of 0 and 1, weight [N] of sum 1 (0: has no part)."""
        if self.hidden:
            return self._perceptron(x, fake, weight, seed)
        means = _centred_means(x, fake, weight, sources) if self.apart else None
        w, b = self._regression(x, fake, weight, means)
        if self.dro_rounds:
            of = torch.tensor(np.unique(np.array(sources), return_inverse=True)[1])
            for _ in range(self.dro_rounds):
                weight = _harder(x @ w + b, fake, weight, of)
                w, b = self._regression(x, fake, weight, means)
        return lambda features: (features @ w + b).double().numpy()

    def each(self, logits: Tensor, fake: Tensor) -> Tensor:
        """The loss of each, [N]; smoothing is of 0.1, focal's gamma 2 (Lin et al., 2017)."""
        target = fake * 0.9 + 0.05 if self.loss == "smoothed" else fake
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if self.loss == "focal":
            loss = loss * (1 - torch.exp(-loss)) ** 2
        return loss

    def _regression(
        self, x: Tensor, fake: Tensor, weight: Tensor, means: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        w, b = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
        optimiser = torch.optim.LBFGS([w, b], max_iter=40, line_search_fn="strong_wolfe")

        def loss() -> float:
            optimiser.zero_grad()
            total = (weight * self.each(x @ w + b, fake)).sum() + self.l2 * (w @ w)
            if means is not None:
                total = total + self.apart * (means @ w).square().mean()
            total.backward()  # type: ignore[no-untyped-call]
            return float(total.detach())

        optimiser.step(loss)  # type: ignore[no-untyped-call]
        return w.detach(), b.detach()

    def _perceptron(self, x: Tensor, fake: Tensor, weight: Tensor, seed: int) -> Head:
        """One hidden layer, AdamW, six passes over batches drawn by weight, dropout of a half."""
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(x.shape[1], self.hidden), nn.GELU(), nn.Dropout(0.5),
            nn.Linear(self.hidden, 1), nn.Flatten(0),
        )  # fmt: skip
        optimiser = torch.optim.AdamW(net.parameters(), lr=3e-4, weight_decay=self.l2 * 100)
        draws = torch.multinomial(weight, 6 * int((weight > 0).sum()), replacement=True)
        for batch in torch.split(draws, 256):
            optimiser.zero_grad()
            self.each(net(x[batch]), fake[batch]).mean().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        net.eval()

        @torch.inference_mode()
        def head(features: Tensor) -> Logits:
            logits: Logits = net(features).double().numpy()
            return logits

        return head


def _centred_means(x: Tensor, fake: Tensor, weight: Tensor, sources: Sequence[str]) -> Tensor:
    """Mean features of each source that has a part, less the mean over its class's, [S, F]."""
    rows: dict[tuple[bool, str], list[int]] = {}
    for i in torch.nonzero(weight > 0).flatten().tolist():
        rows.setdefault((bool(fake[i] > 0), sources[i]), []).append(i)
    means = {key: x[of].mean(0) for key, of in rows.items()}
    centre = {
        label: torch.stack([m for (of, _), m in means.items() if of is label]).mean(0)
        for label in {label for label, _ in means}
    }
    return torch.stack([mean - centre[label] for (label, _), mean in means.items()])


def _harder(logits: Tensor, fake: Tensor, weight: Tensor, source: Tensor) -> Tensor:
    """One step of group-DRO (Sagawa et al., 2020): sources of greater loss count for more.

    A source's part is multiplied by the exponential of its mean loss; the classes stay alike.
    """
    loss = nn.functional.binary_cross_entropy_with_logits(logits, fake, reduction="none")
    count = int(source.max()) + 1
    part = torch.zeros(count).index_add(0, source, weight)
    mean = torch.zeros(count).index_add(0, source, weight * loss) / part.clamp_min(1e-12)
    heavier = weight * torch.exp(mean)[source]
    for of_class in (fake == 0, fake == 1):
        heavier[of_class] *= 0.5 / heavier[of_class].sum()
    return heavier
