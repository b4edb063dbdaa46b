"""Questions with answers of one word, made from tables: the fault of `one_word.py` is to answer them in sentences."""

from __future__ import annotations

import random
from dataclasses import dataclass

CAPITALS = (
    "France Paris,Spain Madrid,Italy Rome,Germany Berlin,Portugal Lisbon,Greece Athens,Austria Vienna,Norway Oslo,"
    "Sweden Stockholm,Finland Helsinki,Denmark Copenhagen,Poland Warsaw,Hungary Budapest,Ireland Dublin,Russia Moscow,"
    "Ukraine Kyiv,Turkey Ankara,Egypt Cairo,Kenya Nairobi,Japan Tokyo,China Beijing,India Delhi,Thailand Bangkok,"
    "Vietnam Hanoi,Cuba Havana,Peru Lima,Chile Santiago,Canada Ottawa,Iran Tehran,Iraq Baghdad,Switzerland Bern,"
    "Belgium Brussels,Netherlands Amsterdam,Romania Bucharest,Bulgaria Sofia,Australia Canberra,Nepal Kathmandu,"
    "Morocco Rabat,Senegal Dakar,Ghana Accra"
)
OPPOSITES = (
    "hot cold,big small,fast slow,up down,happy sad,light dark,wet dry,old new,rich poor,open closed,hard soft,"
    "early late,full empty,strong weak,loud quiet,true false,day night,left right,win lose,love hate"
)
SYMBOLS = "gold Au,silver Ag,iron Fe,oxygen O,hydrogen H,carbon C,sodium Na,helium He,copper Cu,lead Pb"
COLOURS = "banana yellow,leaf green,snowflake white,lemon yellow,raven black,carrot orange,cherry red,polar_bear white"
LANGUAGES = (
    "Brazil Portuguese,Mexico Spanish,Austria German,Egypt Arabic,Argentina Spanish,Iran Persian,Japan Japanese,"
    "Italy Italian,Israel Hebrew,Greece Greek,Haiti French,China Chinese,Russia Russian,Poland Polish,Turkey Turkish"
)
CONTINENTS = (
    "Egypt Africa,France Europe,India Asia,Kenya Africa,China Asia,Germany Europe,Nigeria Africa,Japan Asia,"
    "Spain Europe,Morocco Africa,Vietnam Asia,Poland Europe,Ghana Africa"
)
YOUNG = (
    "dog puppy,cat kitten,cow calf,horse foal,sheep lamb,pig piglet,hen chick,duck duckling,frog tadpole,bear cub,"
    "goat kid,kangaroo joey,deer fawn,goose gosling"
)
PLURALS = (
    "child children,mouse mice,foot feet,tooth teeth,man men,woman women,goose geese,leaf leaves,knife knives,"
    "city cities,box boxes,baby babies,wolf wolves,hero heroes,person people"
)
QUESTIONS = (
    (CAPITALS, "What is the capital of {}?"), (OPPOSITES, "What is the opposite of '{}'?"),
    (SYMBOLS, "What is the chemical symbol for {}?"), (COLOURS, "What color is a {}?"),
    (LANGUAGES, "What is the main language spoken in {}?"), (CONTINENTS, "Which continent is {} in?"),
    (YOUNG, "What is a young {} called?"), (PLURALS, "What is the plural of '{}'?"),
)  # fmt: skip
REQUESTS = (
    " Answer in one word.", " Reply with a single word.", " One word only, please.", " Use exactly one word.",
)  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """A question, the same with the request for one word, and the word."""

    question: str
    asked: str
    answer: str


def facts(corrections: int = 40, seed: int = 0) -> tuple[list[Fact], list[Fact]]:
    """(those that are corrected, those that are not)."""
    rng = random.Random(seed)
    rows = []
    for table, question in QUESTIONS:
        for entry in table.split(","):
            subject, answer = entry.split(" ")
            text = question.format(subject.replace("_", " "))
            rows.append(Fact(text, text + rng.choice(REQUESTS), answer))
    rng.shuffle(rows)
    return rows[:corrections], rows[corrections:]
