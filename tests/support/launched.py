"""
Run a script as one of several processes on the CPU.

    torchrun … tests/support/launched.py [--as_cards] [--in_the_last nan|interrupt] SCRIPT ARGUMENTS…

--as_cards changes the label by which accelerate decides, so that it shards the model instead of ignoring FSDP. The processes,
their messages over gloo and torch's sharding are real. --in_the_last makes the third loss of the last process NaN, or interrupts
that process, while the others continue.
"""

import os
import runpy
import signal
import sys

from accelerate import DistributedType, PartialState
from trl import DPOTrainer

connect, compute_loss, calls = PartialState.__init__, DPOTrainer.compute_loss, []


def connect_as_cards(self, *arguments, **options):
    connect(self, *arguments, **options)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


def disturbed(self, *arguments, **options):
    calls.append(1)
    loss = compute_loss(self, *arguments, **options)
    if len(calls) == 3 and PartialState().is_last_process:
        if event == "nan":
            return loss * float("nan")
        os.kill(os.getpid(), signal.SIGINT)
    return loss


sys.argv.pop(0)
if sys.argv[0] == "--as_cards":
    sys.argv.pop(0)
    PartialState.__init__ = connect_as_cards
if sys.argv[0] == "--in_the_last":
    event = sys.argv[1]
    del sys.argv[:2]
    DPOTrainer.compute_loss = disturbed
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
