"""burnish: preference post-training of language models, from offline DPO to on-policy methods with one dial."""

__version__ = "0.1.0"
