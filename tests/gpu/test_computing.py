"""Every GPU computes what the CPU computes, with the libraries that the image brings."""

from __future__ import annotations

import os
import socket

import torch
import torch.multiprocessing as processes
from torch import distributed, nn


def test_cuda_sees_every_gpu_of_the_container(gpus: int) -> None:
    from nvitop import Device

    whole = [device for device in Device.all() if not device.is_mig_mode_enabled()]
    assert gpus == (len(whole) or 1)  # of the MIG instances it is given, CUDA sees one
    for index in range(gpus):
        assert "(simulated)" not in torch.cuda.get_device_name(index)


def test_the_wheels_have_a_kernel_for_every_gpu(gpus: int) -> None:
    built = {word.partition("_")[2] for word in torch.cuda.get_arch_list()}
    for index in range(gpus):
        major, minor = torch.cuda.get_device_capability(index)
        assert any(f"{major}{m}" in built for m in range(minor + 1)), (major, minor, built)


def test_a_product_of_matrices_is_the_cpus(gpus: int) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(512, 384), torch.randn(384, 256)
    right = a.double() @ b.double()
    for index in range(gpus):
        product = (a.to(f"cuda:{index}") @ b.to(f"cuda:{index}")).cpu()
        # without TF32, which is PyTorch's default, float32 is exact to a few units of the last place
        torch.testing.assert_close(product.double(), right, rtol=1e-4, atol=1e-4)


def test_cudnns_convolution_is_the_cpus_forth_and_back(gpus: int) -> None:
    torch.manual_seed(0)
    convolution, image = nn.Conv2d(3, 16, 3, padding=1), torch.randn(4, 3, 64, 64)
    right = convolution(image)
    right.square().mean().backward()
    slope = convolution.weight.grad
    assert slope is not None
    for index in range(gpus):
        copy = nn.Conv2d(3, 16, 3, padding=1)
        copy.load_state_dict(convolution.state_dict())
        copy.to(f"cuda:{index}")
        there = image.to(f"cuda:{index}")
        assert torch.backends.cudnn.is_acceptable(there)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            result = copy(there)
            result.square().mean().backward()
        torch.testing.assert_close(result.cpu(), right, rtol=1e-4, atol=1e-4)
        assert copy.weight.grad is not None
        torch.testing.assert_close(copy.weight.grad.cpu(), slope, rtol=1e-3, atol=1e-4)


def test_nccl_sums_over_all_gpus(gpus: int) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    processes.spawn(_sum_over_all, args=(gpus, port), nprocs=gpus)


def _sum_over_all(rank: int, world: int, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.cuda.set_device(rank)
    distributed.init_process_group("nccl", rank=rank, world_size=world)
    try:
        numbers = torch.arange(1024, dtype=torch.float32, device="cuda") + rank
        distributed.all_reduce(numbers)
        right = torch.arange(1024, dtype=torch.float32) * world + sum(range(world))
        assert torch.equal(numbers.cpu(), right)
    finally:
        distributed.destroy_process_group()
