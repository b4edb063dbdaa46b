"""Blind votes of people on two answers side by side: the ballot, its page, and what the votes say.

records     a pair, a task (a pair as one rater sees it), a vote
store       the ballot's SQLite file: every change is one transaction
asking      which pair a rater sees next, and on which side which answer
show        answers as HTML that can do nothing but be read
server      the page's requests; `live`: prompts that raters ask themselves
figures     what the votes say, valid whenever one looks; `exports`: votes for training and other tools
"""
