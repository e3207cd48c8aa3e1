"""What a score is: reading, normal form, bars, descriptors, similarity and pictures of music."""
