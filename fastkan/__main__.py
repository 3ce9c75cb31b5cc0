"""python -m fastkan info | profile"""

import argparse
import json

from fastkan.tools import info, profile


def _info(arguments: argparse.Namespace) -> None:
    print(json.dumps(info.collect(), indent=2) if arguments.json else info.report())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fastkan", description="KAN layers for PyTorch")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("info", help="what is installed, which backends serve, and why the others do not")
    command.add_argument("--json", action="store_true", help="print as JSON")
    command.set_defaults(run=_info)
    about = "where the time of a layer goes, and how far each operation is from this machine's roofline"
    command = commands.add_parser("profile", help=about, description=about)
    profile.add_options(command)
    command.set_defaults(run=profile.run)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
