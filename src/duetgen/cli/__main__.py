"""`python -m duetgen.cli`: the `duet` command."""

from duetgen.cli.app import main

if __name__ == "__main__":
    main()
