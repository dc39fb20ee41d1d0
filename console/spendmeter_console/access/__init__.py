"""Who asks and what they may see: people, sessions, rates, and the guard in front of every request."""
