"""What the benchmarks have in common: rounds, measuring, reports, the origins, the database, the other sides."""
