"""``python -m personagap``: the ``personagap`` command."""

from personagap.cli import main

if __name__ == "__main__":
    main(prog_name="personagap")
