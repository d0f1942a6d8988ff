# ruff: noqa: A005
"""Simulations of what the statistics promise: coverage of intervals, rates of false alarms."""
