"""Which calibrated score finds planted failures best, and does its guarantee hold?"""
