"""Shows what the gates of a trained network see and do."""
