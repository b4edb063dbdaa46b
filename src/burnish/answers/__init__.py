"""Fresh answers."""
