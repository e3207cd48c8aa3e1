"""What can be counted in a score: descriptors, similarity, form, voice leading."""
