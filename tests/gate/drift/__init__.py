"""The drift test: its bins, its bets, its windows, and what feedback says of the risk."""
