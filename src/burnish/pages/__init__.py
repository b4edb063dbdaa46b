"""One look for every page and picture."""
