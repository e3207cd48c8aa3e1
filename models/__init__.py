"""What is learned: tokens, network, training, decoding, scoring, baseline and bundle."""
