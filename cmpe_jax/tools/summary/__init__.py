"""How large a network is, and where the time of a run went."""
