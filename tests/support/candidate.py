"""A process that stands for a lease and, while it leads, counts in a ConfigMap; it tells what it does.

    python -m tests.support.candidate KUBECONFIG NAMESPACE NAME SECONDS

Its writes are guarded by nothing but the lease.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from controller.cluster.answers import Request
from controller.cluster.kube import Kube
from controller.cluster.leading import Leadership, lead
from controller.cluster.lease import Lease, NotLeaderError
from controller.cluster.lease_object import KubeLeases
from controller.cluster.resources import Resource
from controller.ports import UnavailableError

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")


def _tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def _count(kube: Kube, namespace: str, name: str) -> None:
    _tell("begins")
    request = Request("patch", CONFIG_MAPS, namespace, "counts")
    try:
        for count in range(1_000_000):
            try:
                await kube.call(request, {"data": {name: str(count)}})
                _tell("wrote", count)
            except NotLeaderError as error:
                _tell("refused", error)
            except UnavailableError as error:
                _tell("failed", error)
            await asyncio.sleep(0.05)
    finally:
        _tell("over")


async def main(kubeconfig: str, namespace: str, name: str, seconds: str) -> None:
    kube = await Kube.open(Path(kubeconfig))
    lease = Lease(KubeLeases(kube, namespace, "penstock"), identity=name, seconds=int(seconds))
    kube.before_write, kube.write_deadline = lease.check, lease.remaining
    leading = asyncio.create_task(lead(lease, lambda: _count(kube, namespace, name), Leadership()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leading.cancel)
    try:
        await leading
    except asyncio.CancelledError:
        _tell("ended")
    finally:
        await kube.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
