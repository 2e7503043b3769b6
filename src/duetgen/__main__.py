"""`python -m duetgen`: the `duet` command."""

from duetgen.cli.app import main

if __name__ == "__main__":
    main()
