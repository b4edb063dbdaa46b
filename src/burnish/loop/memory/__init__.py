"""What a run needs of a device.

`footprint` counts it on shapes, `plan` adds it up for `devices`, `measure` tries it on a GPU, and `retry` does a step
again with less where it was not there.
"""
