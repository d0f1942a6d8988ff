"""The command ``cas``: one module a verb, each imported only when it is called."""
