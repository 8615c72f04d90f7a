"""Images: datasets, their preparation, and the batches of a step, which follow from the seed and the step alone."""
