"""Names what is on images, by a trained network."""
