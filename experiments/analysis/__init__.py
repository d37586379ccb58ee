"""From predictions to numbers: pooling, comparison, subgroups, robustness, table 1, baselines."""
