"""Tests of both packages; a package, so that `tests.support` is found before any other `tests`."""
