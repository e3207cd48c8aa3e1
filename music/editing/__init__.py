"""Changes by rule: transformations of notes and of bars."""
