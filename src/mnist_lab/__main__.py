"""``python -m mnist_lab`` is the ``mnist-lab`` command."""

from mnist_lab.cli import main

if __name__ == "__main__":
    main()
