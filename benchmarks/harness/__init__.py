"""What the benchmarks share: rounds, measuring, reports, origins, the database, and the peers."""
