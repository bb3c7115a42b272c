"""``python -m rafmodel`` is the same as ``rafmodel``."""

from rafmodel.cli import main

if __name__ == "__main__":
    main()
