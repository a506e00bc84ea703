"""Start Workbench: `python app.py`, or `python app.py --help`."""

from workbench.cli import main

if __name__ == "__main__":
    main()
