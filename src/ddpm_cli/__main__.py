"""``python -m ddpm_cli`` is the same as ``ddpm``."""

from ddpm_cli.cli import entry

if __name__ == "__main__":
    entry()
