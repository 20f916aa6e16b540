"""Models that the repository carries: data, no code. CARD.md says what they are and what they are not for."""
