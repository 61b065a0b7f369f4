"""What an embedded Kubernetes API lacks of a cluster: the controllers, the scheduler, and nodes that only pretend.

With them Deployments get pods, pods get a node and are Ready at once, Jobs are complete, volumes are bound, a deleted
namespace goes. No container ever runs: KWOK says of each pod what a kubelet would.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from leaderboard.local.kubernetes import EmbeddedKubernetes
from leaderboard.local.process import Child, Log, with_death_signal

NODES = 2
VOLUMES = 8
_VOLUME_SIZE = "100Gi"


@contextlib.contextmanager
def controllers(
    cluster: EmbeddedKubernetes, folder: Path, *, manager: Path, scheduler: Path, kwok: Path
) -> Iterator[None]:
    """Run all three beside `cluster` while the block lasts; `folder` has their logs and the signing key's cluster."""
    folder.mkdir(parents=True, exist_ok=True)
    log = Log(folder / "log")
    config = str(cluster.kubeconfig)
    commands = {
        "manager": [
            str(manager),
            f"--kubeconfig={config}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--service-account-private-key-file={cluster.kubeconfig.parent / 'service-accounts.key'}",
            f"--root-ca-file={cluster.ca}",
            # KWOK's nodes give no sign of life that it would believe.
            "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller",
        ],
        "scheduler": [str(scheduler), f"--kubeconfig={config}", "--leader-elect=false", "--secure-port=0"],
        "kwok": [str(kwok), f"--kubeconfig={config}", "--manage-all-nodes=true"],
    }
    children = []
    try:
        for name, command in commands.items():
            children.append(Child(with_death_signal(command, "TERM"), name=name, log=log, cwd=folder, env=os.environ))
        cluster.kubectl("apply", "--server-side", "-f", "-", input=_machines())
        # The API gives it to every new node; who would take it off again is not running.
        cluster.kubectl("taint", "nodes", "--all", "node.kubernetes.io/not-ready:NoSchedule-")
        yield
    finally:
        for child in children:
            child.stop(seconds=10.0)
        log.close()


def _machines() -> str:
    nodes = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"pretended-{number}", "labels": {"kubernetes.io/hostname": f"pretended-{number}"}},
            "status": {kind: {"cpu": "64", "memory": "256Gi", "pods": "200"} for kind in ("allocatable", "capacity")},
        }
        for number in range(NODES)
    ]
    # Nothing provisions volumes here. These have no class, as the claims of a stack without `storageClass`.
    volumes = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"pretended-{number}"},
            "spec": {
                "capacity": {"storage": _VOLUME_SIZE},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "hostPath": {"path": f"/nowhere/{number}"},
            },
        }
        for number in range(VOLUMES)
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [*nodes, *volumes]})
