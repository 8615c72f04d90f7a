"""Compiles a run for machines that are not there: does it fit, how fast can it be, and what does it take?"""
