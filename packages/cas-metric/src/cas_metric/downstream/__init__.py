"""Downstream utility: does synthetic data help a classifier of real images (§4.2.5, Figure 3)?"""
