"""A judge's prompt: a text with places in braces, all filled in one pass, so that what an answer says changes nothing
but its own place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from burnish.errors import ConfigError

PLACE = re.compile(r"\{([a-z_]+)\}")
KNOWN = {"fence", "prompt", "reference", "answer", "answer_a", "answer_b"}
NEEDED = {"pairwise": {"prompt", "answer_a", "answer_b"}, "pointwise": {"prompt", "answer"}}
OWN = Path(__file__).with_name("templates")
VERDICT = re.compile(r"^[\s*#>`-]*verdict\s*:?[\s*`]*(A|B|tie)\b[\s.*`]*$", re.IGNORECASE | re.MULTILINE)
GRADE = re.compile(
    r"^[\s*#>`-]*grade\s*:?[\s*`]*(-?\d+(?:\.\d+)?)(?:\s*/\s*\d+)?[\s.*`]*$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True)
class Template:
    """A template's text, for one of the modes."""

    text: str
    mode: str

    @classmethod
    def read(cls, file: str, mode: str) -> Template:
        """The file's, or burnish's own for an empty name. Raises ConfigError for places that are unknown or missing."""
        path = Path(file) if file else OWN / f"{mode}.txt"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"judge.template = '{file}' cannot be read as UTF-8 text: {error}") from None
        places = set(PLACE.findall(text))
        if unknown := sorted(places - KNOWN):
            raise ConfigError(
                f"judge.template = '{file}' has the place {{{unknown[0]}}}; known are {', '.join(sorted(KNOWN))}"
            )
        if missing := sorted(NEEDED[mode] - places):
            raise ConfigError(
                f"judge.template = '{file}' lacks the place {{{missing[0]}}}, which judge.mode = '{mode}' fills"
            )
        return cls(text, mode)

    def fill(self, values: Mapping[str, str]) -> str:
        """The prompt. The fence is a line drawn from the values' own content: no answer can hold it, and the same
        question is the same text every time."""
        digest = hashlib.sha256("\0".join(f"{k}={values[k]}" for k in sorted(values)).encode("utf-8", "surrogatepass"))
        known = {"reference": "", **values, "fence": f"----- {digest.hexdigest()[:20]} -----"}
        return PLACE.sub(lambda place: known.get(place.group(1), place.group(0)), self.text)


def verdict(reply: str) -> float | None:
    """1 where A won, 0 where B did, 1/2 for a tie: the last line of the form `Verdict: A`. None where there is none."""
    found = VERDICT.findall(reply)
    return {"a": 1.0, "b": 0.0, "tie": 0.5}[found[-1].lower()] if found else None


def grade(reply: str) -> float | None:
    """The number of the last line of the form `Grade: 7`. None where there is none."""
    found = GRADE.findall(reply)
    return float(found[-1]) if found else None
