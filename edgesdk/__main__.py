"""Makes `python -m edgesdk` the same as `edgesdk`."""

from edgesdk.cli.start import main

if __name__ == "__main__":
    main()
