"""The built-in world: arithmetic flash cards, on which the truth is known and a run takes seconds.

`world` holds the cards and the raters, `gold` their utility as a judge, `policy` a small Llama and its SFT. Three jobs
run on them, each with its picture: `quickstart` (SFT, pairs, DPO), `reward` (reward models beside DPO's implicit
reward), and `dial` (offline against on-policy, under a judge that stays right and under one that does not).
"""
