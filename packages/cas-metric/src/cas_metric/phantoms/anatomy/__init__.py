"""What the renderers draw: chest, skin, breast tissue and retina, from specification to pixels."""
