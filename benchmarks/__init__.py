"""What is claimed: each script prints a table of the README and writes it to reports/benchmarks/."""
