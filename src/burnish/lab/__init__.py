"""The built-in world: flash cards small enough to train on in seconds, with a gold utility that is known exactly.

`world` states the task, the demonstrator, the gold utility and the rater; `policy` makes and samples the tiny model;
`measure` says how good a policy is; `quickstart` runs the whole job and leaves a picture.
"""
