"""Learning from reward and from people: rewards, rollouts, rounds, preferences, the Lightning module, its
report."""
