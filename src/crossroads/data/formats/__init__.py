"""Readers of the formats in which robot demonstrations are kept; each turns its files into a `Source` of episodes."""
