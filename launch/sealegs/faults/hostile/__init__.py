"""Bundles and files that somebody means harm with."""
