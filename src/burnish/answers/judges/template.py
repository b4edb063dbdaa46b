"""A judge's prompt: a text with places in braces, all filled in a single pass, so that the text of an answer cannot
change another place."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from burnish.answers.judges.thoughts import without_thoughts
from burnish.errors import ConfigError

PLACE = re.compile(r"\{([a-z_]+)\}")
KNOWN = {"fence", "prompt", "reference", "answer", "answer_a", "answer_b"}
NEEDED = {"pairwise": {"prompt", "answer_a", "answer_b"}, "pointwise": {"prompt", "answer"}}
TEMPLATES = Path(__file__).with_name("templates")
VERDICT = re.compile(r"^[\s*#>`-]*verdict\s*:?[\s*`]*(A|B|tie)\b[\s.*`]*$", re.IGNORECASE | re.MULTILINE)
GRADE = re.compile(
    r"^[\s*#>`-]*grade\s*:?[\s*`]*(-?\d+(?:\.\d+)?)(?:\s*/\s*\d+)?[\s.*`]*$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True)
class Template:
    """The text of a template, for a mode of the judge."""

    text: str
    mode: str

    @classmethod
    def read(cls, file: str, mode: str) -> Template:
        """The template in a file, or burnish's for an empty name. Raises ConfigError for unknown or missing places."""
        path = Path(file) if file else TEMPLATES / f"{mode}.txt"
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
        """The prompt. The fence is a line made from a hash of the values: no answer can contain it, and the same
        question is always the same text."""
        digest = hashlib.sha256("\0".join(f"{k}={values[k]}" for k in sorted(values)).encode("utf-8", "surrogatepass"))
        known = {"reference": "", **values, "fence": f"----- {digest.hexdigest()[:20]} -----"}
        return PLACE.sub(lambda place: known.get(place.group(1), place.group(0)), self.text)


def verdict(reply: str) -> float | None:
    """1 where A won, 0 where B did, 1/2 for a tie, from the last line of the form `Verdict: A` that is no thought; None
    without one."""
    verdicts = VERDICT.findall(without_thoughts(reply))
    return {"a": 1.0, "b": 0.0, "tie": 0.5}[verdicts[-1].lower()] if verdicts else None


def grade(reply: str) -> float | None:
    """The number in the last line of the form `Grade: 7` that is no thought; None without a finite one."""
    grades = GRADE.findall(without_thoughts(reply))
    value = float(grades[-1]) if grades else math.inf
    return value if math.isfinite(value) else None  # hundreds of digits are infinite
