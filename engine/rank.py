"""`python -m engine.rank FD`: a rank other than the first, started by `engine.team` and led over the socket FD.

What it is for: it holds its share of the model and runs every batch that rank 0 runs. What may not enter: requests,
scheduling, sampling, grammars: it never sees a logit that it could choose by.
"""

from __future__ import annotations

import logging
import signal
import sys
from multiprocessing.connection import Connection

import msgspec
import torch

from engine.lifetime import die_with_parent
from engine.model import ModelRunner
from engine.model.parallel import ProcessGroup
from engine.team import CopyPage, LoadAdapter, Order, RankLaunch, Run, UnloadAdapter, batch_of


def main(line: Connection) -> int:
    """Runs until rank 0 closes the line; the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for number in (signal.SIGINT, signal.SIGTERM):  # the terminal's and the operator's: rank 0 decides what they mean
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()
    launch = msgspec.msgpack.decode(line.recv_bytes(), type=RankLaunch)
    device = torch.device(launch.config.device)
    group = ProcessGroup(launch.rank, launch.ranks, launch.rendezvous, device, launch.timeout_s)
    runner = ModelRunner(launch.config, group)
    group.hurry()
    orders = msgspec.msgpack.Decoder(Order)
    while True:
        try:
            message = orders.decode(line.recv_bytes())
        except EOFError:
            group.close()
            return 0
        match message:
            case Run():
                runner.run(batch_of(message))
            case CopyPage(source, target):
                runner.copy_page(source, target)
            case LoadAdapter(slot, folder, most_rank):
                runner.load_adapter(slot, folder, most_rank)
            case UnloadAdapter(slot):
                runner.unload_adapter(slot)


if __name__ == "__main__":
    sys.exit(main(Connection(int(sys.argv[1]))))
