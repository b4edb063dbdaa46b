"""Who says which answers are better: programs that check them, reward models, language models, people."""
