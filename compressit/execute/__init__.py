"""Carrying a plan out: tasks in worker processes, results in the store."""
