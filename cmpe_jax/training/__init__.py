"""Training and evaluation: a run put together once, its loop, its step, and what it leaves behind."""
