"""The gpu-agent: runs on every GPU host and tells over HTTP what NVML says.

It is the host's only reader of NVML, and it tells only; it changes nothing.
"""
