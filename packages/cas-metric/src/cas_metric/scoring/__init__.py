"""From checked inputs to one row an image: the main job."""
