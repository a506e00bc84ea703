"""What users would pick instead, each in an environment of its own: see `measure.measure_peers`."""
