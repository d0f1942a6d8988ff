"""``cas-v2``: each image placed among other real images of its class."""
