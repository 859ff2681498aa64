"""What the benchmarks of streaming share: a simulator in a process of its own, so that only our side is measured."""
