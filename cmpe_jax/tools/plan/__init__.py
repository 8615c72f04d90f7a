"""Compiles a run for machines that are not there: does it fit, and how fast can it be at most?"""
