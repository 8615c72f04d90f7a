"""Takes a trained network out of this project: a program, weights, a description."""
