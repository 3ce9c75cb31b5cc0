"""python -m fastkan info | profile | convert | demo"""

import argparse
import json

from fastkan.tools import convert, demo, info, profile


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
    about = "a model of pykan, efficient-kan or FastKAN as a file of fastkan, or a model of fastkan as a state of efficient-kan"
    command = commands.add_parser("convert", help=about, description=about)
    convert.add_options(command)
    command.set_defaults(run=convert.run)
    about = "fit, prune and see a formula from 1,000 rows, in under a minute; needs the extras train and explain"
    command = commands.add_parser("demo", help=about, description=about)
    demo.add_options(command)
    command.set_defaults(run=demo.run)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
