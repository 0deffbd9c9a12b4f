"""Kernels for CPUs, a file each, with their figures and the machines these were measured on."""
