"""Measures networks by gate and form (`step`), and our input pipeline against tf.data (`input`)."""
