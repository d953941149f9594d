"""The gpu-agent: serves NVML's GPU inventory, samples and metrics of one host over HTTP.

It is the host's only reader of NVML, and it is read-only.
"""
