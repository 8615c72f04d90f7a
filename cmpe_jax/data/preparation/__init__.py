"""Making prepared datasets: from upstream archives, or from those that TFDS made before."""
