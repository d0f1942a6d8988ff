"""Copies of training images among generated ones, and leakage between splits (Appendix M)."""
