"""What a score is: its normal form, cells, keys, instruments, passages."""
