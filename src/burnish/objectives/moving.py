"""How a reference follows the policy: trust-region DPO's updates (2404.09656)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor


def tr_dpo_update(
    ref: Tensor, pol: Tensor, step: int, alpha: float = 0.6, tau: int = 512, kind: Literal["soft", "hard"] = "soft"
) -> Tensor:
    """After optimiser step `step` (from 1), where tau divides it: `alpha policy + (1 - alpha) reference`, or the policy
    itself with `hard`; else the reference as it is. Both in float32 or wider; what comes back is the reference's own.
    """
    if step % tau:
        return ref
    share = 1.0 if kind == "hard" else alpha
    return share * pol.to(ref.dtype) + (1 - share) * ref
