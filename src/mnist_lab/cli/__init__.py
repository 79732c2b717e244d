"""The command line: options become a config, a config one call, its result a print."""

from mnist_lab.cli.app import main

__all__ = ["main"]
