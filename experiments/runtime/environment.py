"""The environment is no input: what a launcher or a scheduler left there counts only in processes that a run itself starts.

Lightning takes its rank from RANK, LOCAL_RANK or SLURM_PROCID, stays silent on every rank but 0, waits for other processes
where LOCAL_RANK is set, takes options from PL_TRAINER_*, and looks for checkpoints of its own where SLURM_NTASKS is set; W&B
would record account, user and node. Which GPU a process has stands in CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

PARENT = "REGIONWISE_PARENT"
"""Number of the process that runs a command: the processes that it starts find their parent there."""
LAUNCHERS = re.compile(
    r"(SLURM|SLURMD|PMI|PMI1|PMI2|PMIX|PALS|OMPI|MPI|MV2|JSM|FLUX|PL|PET|TORCHELASTIC)_.*"
    r"|((LOCAL|GLOBAL|NODE|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|STANDALONE_PORT"
)
"""Variables of Slurm, of MPI's launchers, of LSF's jsrun, of torchrun and of Lightning."""
OF_THE_CLIENT = ("SLURM_CONF", "SLURM_CLUSTERS")
"""Where sbatch and squeue find their cluster."""


@contextmanager
def own_environment() -> Iterator[None]:
    """Forget what launchers left, unless this process was started by a run; enter it before Lightning is imported."""
    if os.environ.get(PARENT) != str(os.getppid()):
        for name in [name for name in os.environ if LAUNCHERS.fullmatch(name) and name not in OF_THE_CLIENT]:
            del os.environ[name]
    os.environ[PARENT] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[PARENT]
