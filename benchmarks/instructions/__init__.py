"""Rates of matrix instructions."""
