"""Connections to Dask clusters."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from personagap.errors import UserError, first_line

#: Seconds within which a scheduler must answer.
SCHEDULER_TIMEOUT = 10


@contextlib.contextmanager
def connected(address: str, jobs: int) -> Iterator[Any]:
    """Yield a client of the scheduler at ``address``, or of a new cluster of ``jobs`` processes on
    this machine if that is "local"; `UserError` if there is no scheduler.
    """
    from dask.distributed import Client, LocalCluster
    from distributed.comm import connect

    with contextlib.ExitStack() as stack:
        # Errors are reported in one line here, instead of in Dask's long logs.
        logging.disable()
        stack.callback(logging.disable, logging.NOTSET)
        try:
            if address == "local":
                size = {"n_workers": jobs, "threads_per_worker": 1, "processes": True}
                # Port 0 means any free port. Dask serves pages even without a dashboard, and would
                # warn if another cluster already used the default port.
                scheduler = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
                quiet = {"scheduler_kwargs": scheduler, "silence_logs": logging.CRITICAL}
                cluster = LocalCluster(**size, **quiet)
                client = stack.enter_context(Client(stack.enter_context(cluster)))
            else:
                # Dask's own timeout does not apply to servers of another kind, such as dashboards.
                connection = connect(address, timeout=SCHEDULER_TIMEOUT)
                asyncio.run(asyncio.wait_for(connection, SCHEDULER_TIMEOUT + 5)).abort()
                client = stack.enter_context(Client(address, timeout=SCHEDULER_TIMEOUT))
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"no Dask scheduler at {address}: {first_line(error)}") from None
        yield client
