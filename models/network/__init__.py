"""What is trained: the decoder, its fused steps, the optimiser, low rank, likelihood of pieces, the Lightning
module."""
