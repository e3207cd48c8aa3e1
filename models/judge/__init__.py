"""How music is measured: style classifier, n-gram baseline, fill tasks, obedience, evaluation, scorecard."""
