-- A ballot. Every text of JSON is UTF-8; times are seconds since 1970.
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE models (place INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE prompts (
    id TEXT PRIMARY KEY, turns TEXT NOT NULL, kind TEXT NOT NULL, meta TEXT NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('set', 'asked'))
);
CREATE TABLE pairs (
    id INTEGER PRIMARY KEY,
    prompt TEXT NOT NULL REFERENCES prompts,
    a INTEGER NOT NULL REFERENCES models,
    b INTEGER NOT NULL REFERENCES models CHECK (a < b),
    answer_a TEXT NOT NULL,
    answer_b TEXT NOT NULL,
    alike INTEGER NOT NULL,        -- nobody could tell the answers apart
    names_maker INTEGER NOT NULL,  -- an answer says who made it
    verdict REAL,                  -- a judge's outcome for a
    weight REAL NOT NULL,          -- by which it is asked early
    place INTEGER NOT NULL,        -- in the order of asking
    rater INTEGER REFERENCES raters  -- who alone sees it: it was asked by this rater
);
CREATE TABLE raters (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, token TEXT NOT NULL UNIQUE);
CREATE TABLE sessions (digest TEXT PRIMARY KEY, rater INTEGER NOT NULL REFERENCES raters) WITHOUT ROWID;
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    rater INTEGER NOT NULL REFERENCES raters,
    pair INTEGER NOT NULL REFERENCES pairs,
    swapped INTEGER NOT NULL,      -- b is on the left
    repeats TEXT REFERENCES tasks, -- an earlier task of the same rater, shown again with sides swapped
    state TEXT NOT NULL CHECK (state IN ('open', 'voted', 'skipped')),
    given REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX tasks_by_pair ON tasks (pair, state);
CREATE INDEX tasks_by_rater ON tasks (rater, state);
CREATE UNIQUE INDEX one_open_task ON tasks (rater) WHERE state = 'open';
CREATE UNIQUE INDEX nobody_twice ON tasks (rater, pair) WHERE repeats IS NULL;
CREATE TABLE votes (
    task TEXT PRIMARY KEY REFERENCES tasks,
    choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie', 'both_bad')),
    note TEXT NOT NULL, flagged INTEGER NOT NULL, reasons TEXT NOT NULL,
    seconds REAL NOT NULL,         -- between the first look and the vote
    at REAL NOT NULL
) WITHOUT ROWID;
-- What readers of data sets see: a row for each pair that was voted on; hidden repeats do not count.
CREATE VIEW voted_pairs AS
SELECT
    prompts.id AS prompt, prompts.turns AS turns, prompts.meta AS meta, prompts.origin AS origin, pairs.id AS pair,
    pairs.answer_a AS answer_a, pairs.answer_b AS answer_b, one.name AS model_a, other.name AS model_b,
    json_group_array(json_object(
        'choice', CASE
            WHEN votes.choice IN ('tie', 'both_bad') THEN votes.choice
            WHEN (votes.choice = 'left') = tasks.swapped THEN 'b' ELSE 'a' END,
        'rater', raters.name, 'at', votes.at, 'seconds', votes.seconds, 'note', votes.note,
        'flagged', json(CASE votes.flagged WHEN 0 THEN 'false' ELSE 'true' END), 'reasons', json(votes.reasons)
    )) AS votes
FROM votes
JOIN tasks ON tasks.id = votes.task
JOIN raters ON raters.id = tasks.rater
JOIN pairs ON pairs.id = tasks.pair
JOIN prompts ON prompts.id = pairs.prompt
JOIN models AS one ON one.place = pairs.a
JOIN models AS other ON other.place = pairs.b
WHERE tasks.repeats IS NULL
GROUP BY pairs.id ORDER BY pairs.id;
