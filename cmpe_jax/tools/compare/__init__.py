"""Is one gate better than another on these data? The same recipe, seeds and batches, and paired differences."""
