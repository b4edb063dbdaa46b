"""Kinds of prompts: as the data names them, else by the words that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NAMES = ("category", "cluster", "topic", "subset", "dataset", "source")
MOST = 6  # kinds that are found
LEAST = 12  # prompts in a kind, on average


def named_kind(source: str, meta: Mapping[str, Any]) -> str:
    """The kind that a prompt's row gives; empty where it gives none."""
    return next((str(meta[name]) for name in NAMES if meta.get(name)), source)


def kinds_of(texts: Sequence[str], named: Sequence[str]) -> list[str]:
    """A kind for each prompt: those named where there are two to twenty, else k-means of TF-IDF, each kind named by
    its three commonest words; the empty kind for all where there are too few prompts to tell apart."""
    known = set(named)
    if 1 < len(known) <= 20 and "" not in known:
        return list(named)
    count = min(MOST, len(texts) // LEAST)
    if count < 2:
        return [""] * len(texts)
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(stop_words="english", max_features=4000, token_pattern=r"(?u)\b[^\W\d_]{3,}\b")
    try:
        table = vectorizer.fit_transform([text[:4000] for text in texts])
    except ValueError:  # no words at all
        return [""] * len(texts)
    count = min(count, len({tuple(row.indices) for row in table}))
    if count < 2:
        return [""] * len(texts)
    fitted = KMeans(count, n_init=4, random_state=0).fit(table)
    words = vectorizer.get_feature_names_out()
    titles = [", ".join(words[i] for i in centre.argsort()[::-1][:3]) for centre in fitted.cluster_centers_]
    return [titles[label] for label in fitted.labels_]
