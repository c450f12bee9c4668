"""Messages and other outputs: their texts, their places for a decision, their traces."""
