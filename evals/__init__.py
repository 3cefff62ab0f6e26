"""HOW to measure: suites, engines, the lm-eval harness, scores, statistics and claims. A leaf package."""
