"""python -m fastkan info"""

import argparse
import json

from fastkan import info


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fastkan", description="KAN layers for PyTorch")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("info", help="what is installed, which backends serve, and why the others do not")
    command.add_argument("--json", action="store_true", help="print as JSON")
    arguments = parser.parse_args()
    print(json.dumps(info.collect(), indent=2) if arguments.json else info.report())


if __name__ == "__main__":
    main()
