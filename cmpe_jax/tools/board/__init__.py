"""The board of results: what has been measured beside what the paper reports, and what is open."""
