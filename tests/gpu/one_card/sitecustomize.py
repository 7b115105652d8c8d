"""Lets the ranks of one torchrun share one GPU, for machines that have only one.

Python imports this at its start where this folder is on PYTHONPATH. NCCL refuses two
ranks on one GPU of one host; told that each is a host of its own it goes through the
loopback device. The memory of each rank, what DeepSpeed writes, and how a rank ends are
those of several GPUs; speed is not.
"""

import os

if "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ:  # a rank, not torchrun itself
    os.environ["LOCAL_RANK"] = "0"
    os.environ["NCCL_HOSTID"] = f"rank-{os.environ['RANK']}"
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    os.environ["NCCL_MNNVL_ENABLE"] = "0"
