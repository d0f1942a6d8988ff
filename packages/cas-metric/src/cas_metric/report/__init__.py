"""Reports for people: one HTML file a run, and figures for publication."""
