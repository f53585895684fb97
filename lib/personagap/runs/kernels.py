"""Jupyter kernel specs: one for the CPU and one for each GPU, to run notebooks on a device."""

import sys

import ipykernel.kernelspec


def install(prefix: str | None = None) -> dict[str, str]:
    """Install ``personagap-cpu`` and ``personagap-gpu<N>`` for this interpreter, and return the
    folder of each by name.

    They are installed in ``<prefix>/share/jupyter/kernels``; None stands for this environment.
    """
    import torch

    # A kernel sees only one device, so that "auto" selects it.
    devices = {"cpu": ("CPU", "")}
    for number in range(torch.cuda.device_count()):
        label = f"GPU {number}: {torch.cuda.get_device_name(number)}"
        devices[f"gpu{number}"] = label, str(number)
    folders = {}
    for device, (label, visible) in devices.items():
        folders[f"personagap-{device}"] = ipykernel.kernelspec.install(
            kernel_name=f"personagap-{device}",
            display_name=f"personagap ({label})",
            env={"CUDA_VISIBLE_DEVICES": visible},
            prefix=prefix or sys.prefix,
        )
    return folders
