"""Runs a script in two processes that torch.distributed joins."""

import os
import subprocess
import sys

from limits import HANG

START = """
import os, torch, fastkan
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group('gloo')
rank = dist.get_rank()
torch.set_num_threads(1)
"""
END = """
dist.destroy_process_group()
os._exit(0)  # one run in 80 aborts while Python ends: gloo's threads still free tensors then (pytorch/pytorch#179291)
"""


def in_two_processes(folder, script):
    """What both print; fails if one of them does."""
    file = folder / "script.py"
    file.write_text(START + script + END)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", file]
    # the emulated device of a run is in this process alone
    environment = {name: value for name, value in os.environ.items() if name != "FASTKAN_BACKEND"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
