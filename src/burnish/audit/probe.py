"""The accuracy of a bag of words in picking the preferred answer of a pair: a policy learns such words first.

Logistic regression on the difference of the two answers' word counts, without an intercept (so that the order of a pair
cannot help), judged by cross-validation in which all pairs of a prompt are held out together.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.stats import clustered_share

LEAST = 60  # pairs; below this the answer is noise
FOLDS = 5
WORDS = re.compile(r"[^\W_]+|[^\w\s]")


def word_probe(pairs: Sequence[tuple[int, str, str]]) -> dict[str, Any] | None:
    """Held-out accuracy with its interval, and that of the longer answer on the same pairs; None below `LEAST` pairs.

    pairs: (prompt's digest, preferred text, other text).
    """
    prompts = np.array([prompt for prompt, _, _ in pairs], dtype=np.int64)
    if len(pairs) < LEAST or len(np.unique(prompts)) < 2 * FOLDS:
        return None
    from scipy import sparse
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    counter = CountVectorizer(token_pattern=None, tokenizer=WORDS.findall, min_df=3, max_features=20_000)
    try:
        counts = counter.fit_transform([text for _, a, b in pairs for text in (a, b)])
    except ValueError:  # no word occurs in three texts
        return None
    counts.data = np.log1p(counts.data)
    gap = sparse.csr_matrix(counts[0::2] - counts[1::2])
    model = LogisticRegression(C=0.1, fit_intercept=False, max_iter=100)
    both = sparse.vstack([gap, -gap], format="csr")
    right = np.empty(len(pairs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for train, held in GroupKFold(FOLDS).split(gap, groups=prompts):
            rows = np.concatenate([train, train + len(pairs)])
            model.fit(both[rows], rows < len(pairs))
            right[held] = _credit(gap[held] @ model.coef_[0])
        model.fit(both, np.arange(2 * len(pairs)) < len(pairs))
    order = np.argsort(model.coef_[0])
    words = [str(word) for word in counter.get_feature_names_out()]
    share = clustered_share(right, prompts)
    longer = _credit(np.array([len(a) - len(b) for _, a, b in pairs], dtype=float))
    return {
        "accuracy": share.value, "low": share.low, "high": share.high, "pairs": len(pairs),
        "length_accuracy": float(max(longer.mean(), 1 - longer.mean())),
        "words_chosen": [words[i] for i in order[::-1][:12]], "words_rejected": [words[i] for i in order[:12]],
    }  # fmt: skip


def _credit(margin: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """1 where the margin favours the preferred answer, one half where it favours neither."""
    return np.where(margin == 0, 0.5, margin > 0).astype(np.float64)
