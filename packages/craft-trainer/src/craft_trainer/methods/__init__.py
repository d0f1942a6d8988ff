"""The methods, one a file: settings, needs, costs and loss. A new file here is a new method."""
