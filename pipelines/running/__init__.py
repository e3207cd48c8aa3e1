"""What stages share: params, files, tracking, the training run, progress, profiles, sources."""
