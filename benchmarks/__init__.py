"""Measurements that the README quotes, each repeatable with tools/benchmark.py."""
