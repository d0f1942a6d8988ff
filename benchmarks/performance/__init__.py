"""Speed and memory, measured side by side on one machine; no figure here is a test."""
