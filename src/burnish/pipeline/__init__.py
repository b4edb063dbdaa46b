"""Several runs as one job. Each is a run like any other, in a folder of its own.

sweep   the runs of a sweep: made, gone on with, halved; a comparison and a pick at the end
jobs    processes side by side, each with its share of the devices
"""
